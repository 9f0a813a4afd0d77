// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package systemd

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/test/nstest"
)

// The probe runs in the unit's sandbox, as the daemon does, and writes down what
// it may do there.
const (
	probeArg    = "probe"
	probeResult = "/run/nsqueue/probe"
)

// allowed is what the probe found.
type allowed struct {
	// Module: the kernel did not refuse to look at a module for lack of rights.
	Module bool
	// Bounding is the set of capabilities that can be had.
	Bounding string
	// Home: files in a home directory can be made.
	Home bool
}

func runProbe() {
	a := allowed{Module: mayLoadModules(), Bounding: bounding(), Home: mayWrite("/root")}
	b, err := json.Marshal(a)
	if err == nil {
		err = os.WriteFile(probeResult, b, 0o600)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// mayLoadModules offers the kernel something that is no module.
func mayLoadModules() bool {
	fd, err := unix.MemfdCreate("no-module", unix.MFD_CLOEXEC)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return !errors.Is(unix.FinitModule(fd, "", 0), unix.EPERM)
}

func bounding() string {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err.Error()
	}
	_, rest, _ := strings.Cut(string(b), "CapBnd:\t")
	value, _, _ := strings.Cut(rest, "\n")
	return value
}

func mayWrite(dir string) bool {
	f, err := os.CreateTemp(dir, "nsqueue-probe-*")
	if err != nil {
		return false
	}
	_ = f.Close()
	return os.Remove(f.Name()) == nil
}

func readProbe(t *testing.T) allowed {
	t.Helper()
	b, err := os.ReadFile(probeResult)
	nstest.Must(t, err)
	var a allowed
	nstest.Must(t, json.Unmarshal(b, &a))
	return a
}

// has reports whether a capability is in a set as /proc prints it.
func has(t *testing.T, set string, capability int) bool {
	t.Helper()
	var bits uint64
	if _, err := fmt.Sscanf(set, "%x", &bits); err != nil {
		t.Fatalf("capabilities %q: %v", set, err)
	}
	return bits>>capability&1 == 1
}
