// SPDX-License-Identifier: Apache-2.0

// Recorder stands in a CNI chain for the plugin PATH.real, PATH being its own.
// It writes down how it was called, hands everything on, and ends as that did.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/nsqueue/nsqueue/internal/boottime"
	"github.com/nsqueue/nsqueue/test/runtimes/record"
)

func main() {
	code, err := run()
	if err != nil {
		// In the form of a CNI error, so that the runtime shows it.
		fmt.Printf(`{"code": 999, "msg": "record call: %v"}`, err)
		code = 1
	}
	os.Exit(code)
}

func run() (int, error) {
	call := &record.Call{Started: boottime.Now(), Env: map[string]string{}}
	for _, e := range os.Environ() {
		if name, value, _ := strings.Cut(e, "="); strings.HasPrefix(name, "CNI_") {
			call.Env[name] = value
		}
	}
	stdin, err := io.ReadAll(os.Stdin)
	if err != nil {
		return 0, err
	}
	call.Stdin = string(stdin)
	if call.Dir, err = os.Getwd(); err != nil {
		return 0, err
	}
	var out, diagnosis bytes.Buffer
	cmd := exec.Command(os.Args[0]+record.RealSuffix, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &diagnosis
	began := time.Now()
	err = cmd.Run()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		return 0, err
	}
	call.Took = time.Since(began)
	call.Stdout, call.Stderr = out.String(), diagnosis.String()
	call.Code = cmd.ProcessState.ExitCode()
	if err := call.Save(record.Dir); err != nil {
		return 0, err
	}
	_, outErr := os.Stdout.Write(out.Bytes())
	_, diagnosisErr := os.Stderr.Write(diagnosis.Bytes())
	return call.Code, errors.Join(outErr, diagnosisErr)
}
