// SPDX-License-Identifier: Apache-2.0

// Command nsqueue is the CNI plugin: the last of a chain, it hands the netns of
// a new pod to the daemon (nsqueued) and passes the chain's result on as it is.
//
// The package keeps nothing between two calls and starts no goroutine. It does
// without the CNI project's skel package, which reads and writes the process's
// own streams, refuses the plugin's own netns only after the result is out,
// fails on a DEL with a bad configuration, and brings a netns library along.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/printable"
	"github.com/nsqueue/nsqueue/internal/spool"
)

func main() {
	// A runtime that has closed stderr must not end a DEL half-way.
	signal.Ignore(syscall.SIGPIPE)
	p := process{
		args:        os.Args[1:],
		getenv:      os.Getenv,
		stdin:       os.Stdin,
		stdout:      os.Stdout,
		stderr:      os.Stderr,
		limits:      defaultLimits(),
		withTimeout: context.WithTimeout,
		spoolPath:   spool.Path,
	}
	os.Exit(p.run())
}

// limits are how long the calls of the daemon may take. The documented limits are
// longer: they include the start and end of the process, reading the configuration,
// and a write to the spool.
// The limit of the kubelet is minutes, and a plugin that hangs makes the whole node
// NotReady.
type limits struct {
	fail    time.Duration // ADD, CHECK and GC under Fail
	ignore  time.Duration // the same under Ignore
	del     time.Duration
	status  time.Duration
	warn    time.Duration // to report what is wrong with a pod
	backoff time.Duration // between the first two attempts
}

func defaultLimits() limits {
	return limits{
		fail:    9500 * time.Millisecond, // of 10 s
		ignore:  2500 * time.Millisecond, // of 3 s
		del:     1600 * time.Millisecond, // of 2 s
		status:  1600 * time.Millisecond, // of 2 s
		warn:    500 * time.Millisecond,
		backoff: 20 * time.Millisecond,
	}
}

// process is one run of the plugin: all that it takes from outside.
type process struct {
	args           []string
	getenv         func(string) string
	stdin          io.Reader
	stdout, stderr io.Writer
	limits         limits
	// withTimeout ends the attempts to call the daemon.
	withTimeout func(context.Context, time.Duration) (context.Context, context.CancelFunc)
	// spoolPath says where the daemon at a socket looks for calls.
	spoolPath func(socket string) string

	log        *slog.Logger
	cniVersion string // of the configuration, once it is known
}

// run carries out one CNI command and returns the exit status. Nothing goes to
// stdout but the command's result or, with status 1, its error.
func (p *process) run() int {
	p.log = slog.New(slog.NewTextHandler(p.stderr, nil))
	p.cniVersion = version.Current()
	command := p.getenv("CNI_COMMAND")
	switch {
	case len(p.args) > 0 && p.args[0] == "--version":
		fmt.Fprintln(p.stdout, "nsqueue", api.Version())
		return 0
	case command == "":
		p.about()
		return 0
	case command == "DEL":
		p.del()
		return 0
	}
	result, err := p.dispatch(command)
	if err != nil {
		p.printError(cniError(err))
		return 1
	}
	if _, err := p.stdout.Write(result); err != nil {
		p.log.Error("result not printed", errorAttr(err))
		return 1
	}
	return 0
}

func (p *process) dispatch(command string) (result []byte, err error) {
	switch command {
	case "ADD":
		return p.add()
	case "CHECK":
		return nil, p.check()
	case "GC":
		return nil, p.gc()
	case "STATUS":
		return nil, p.status()
	case "VERSION":
		var b strings.Builder
		err := supported().Encode(&b)
		return []byte(b.String()), err
	}
	return nil, types.NewError(types.ErrInvalidEnvironmentVariables,
		fmt.Sprintf("CNI_COMMAND %.40q: want ADD, DEL, CHECK, GC, STATUS or VERSION", command),
		"")
}

// supported are the versions of the CNI specification that have prevResult.
func supported() version.PluginInfo {
	return version.PluginSupports("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
}

func (p *process) about() {
	fmt.Fprintf(p.stderr, `nsqueue %s is a CNI plugin. Container runtimes run it as the
last plugin of a network's chain. It makes nsqueued inspect the packets of each
pod.
CNI specification versions: %s
Operators use nsqueuectl.
`,
		api.Version(), strings.Join(supported().SupportedVersions(), ", "))
}

// printError prints the error result of the CNI specification. Its text goes to
// logs, terminals and events that do not escape it and show one line.
func (p *process) printError(e *types.Error) {
	b, err := json.Marshal(struct {
		CNIVersion string `json:"cniVersion"`
		*types.Error
	}{p.cniVersion, types.NewError(e.Code, oneLine(e.Msg), oneLine(e.Details))})
	if err == nil {
		_, err = p.stdout.Write(append(b, '\n'))
	}
	if err != nil {
		p.log.Error("error not printed", errorAttr(e), slog.String("cause", err.Error()))
	}
}

// oneLine returns the text of an error, which may be several joined ones.
func oneLine(text string) string {
	return printable.Line(strings.ReplaceAll(strings.TrimSpace(text), "\n", "; "))
}

func errorAttr(err error) slog.Attr { return slog.String("error", err.Error()) }

// keyAttr is two attributes: a group without a name is inlined.
func keyAttr(k api.Key) slog.Attr {
	return slog.Group("",
		slog.String("containerID", k.ContainerID), slog.String("ifname", k.Ifname))
}
