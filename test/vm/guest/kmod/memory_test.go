// SPDX-License-Identifier: Apache-2.0

//go:build vmguest && failslab

package kmod

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/test/nstest"
)

// What the kernel offers for refusing memory, see its fault-injection documentation.
const (
	debugfs    = "/sys/kernel/debug/"
	failslab   = debugfs + "failslab/"
	nthFailure = "/proc/thread-self/fail-nth"
	// mostFailures ends what never comes through. Nothing needs so many allocations.
	mostFailures = 200
)

// refuseMemory prepares the kernel to refuse memory that the loaded module asks for, and
// nothing else. Only kernels for debugging can do that: `make test-vm-debug` boots one, and
// builds this file.
func refuseMemory(t *testing.T) {
	t.Helper()
	_ = unix.Mount("debugfs", debugfs, "debugfs", 0, "") // it may be there
	_, err := os.Stat(failslab + "require-start")        // CONFIG_FAULT_INJECTION_STACKTRACE_FILTER
	nstest.Must(t, err)
	start := readNumber(t, "/sys/module/nsqueue/sections/.text", 0)
	size := readNumber(t, "/sys/module/nsqueue/coresize", 10)
	for name, value := range map[string]string{
		"require-start":   strconv.FormatUint(start, 10),
		"require-end":     strconv.FormatUint(start+size, 10),
		"ignore-gfp-wait": "N",
		"verbose":         "0",
	} {
		nstest.Must(t, writeFile(failslab+name, value))
	}
}

func readNumber(t *testing.T, path string, base int) uint64 {
	t.Helper()
	text, err := os.ReadFile(path)
	nstest.Must(t, err)
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), base, 64)
	nstest.Must(t, err)
	return n
}

// failing runs f in the netns with the nth allocation of the module refused. It reports
// whether there were so many.
func (n *netns) failing(t *testing.T, nth int, f func() error) (refused bool, err error) {
	t.Helper()
	n.must(t, func() error { // in one thread, which the kernel counts for
		if err := writeFile(nthFailure, strconv.Itoa(nth)); err != nil {
			return err
		}
		err = f()
		left, readErr := os.ReadFile(nthFailure)
		refused = strings.TrimSpace(string(left)) == "0"
		return errors.Join(readErr, writeFile(nthFailure, "0"))
	})
	return refused, err
}

// untilNoneFails calls try with 1, 2, ... until it reports that nothing was refused.
func untilNoneFails(t *testing.T, try func(nth int) (refused bool)) {
	t.Helper()
	for nth := 1; nth < mostFailures; nth++ {
		if !try(nth) {
			t.Logf("%d allocations", nth-1)
			if nth == 1 {
				t.Error("no memory was refused")
			}
			return
		}
	}
	t.Errorf("more than %d allocations", mostFailures)
}

// A write that the module has no memory for fails and changes nothing, whichever of its
// allocations is refused; and it succeeds afterwards.
func TestSysctlsWithoutMemory(t *testing.T) {
	for _, tt := range []struct {
		name, value string
		first       []string // what is set before, name and value in turn
	}{
		{"enabled", "1", nil},
		{"generation", "1", []string{"enabled", "1"}},
		{"settle_size", "100", []string{"enabled", "1", "generation", "1"}},
		{"directions", "in", []string{"enabled", "1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			load(t, "queue_bypass=1")
			refuseMemory(t)
			untilNoneFails(t, func(nth int) bool {
				n := newNetns(t)
				for i := 0; i < len(tt.first); i += 2 {
					n.set(t, tt.first[i], tt.first[i+1])
				}
				before := n.get(t, tt.name)
				refused, err := n.failing(t, nth, func() error {
					return writeFile("/proc/sys/net/nsqueue/"+tt.name, tt.value)
				})
				n.judgeWrite(t, tt.name, before, tt.value, refused, err)
				return refused
			})
		})
	}
}

// judgeWrite wants a write to have done all or nothing.
func (n *netns) judgeWrite(t *testing.T, name, before, value string, refused bool, err error) {
	t.Helper()
	want := value
	switch {
	case err != nil && !refused:
		t.Errorf("%s: nothing was refused, and the write failed: %v", name, err)
	case err != nil && !errors.Is(err, unix.ENOMEM):
		t.Errorf("%s: %v, want ENOMEM", name, err)
	}
	if err != nil {
		want = before
	}
	if got := n.get(t, name); got != want {
		t.Errorf("%s is %q after %v, want %q", name, got, err, want)
	}
	n.set(t, name, value)
	if got := n.get(t, name); got != value {
		t.Errorf("%s is %q, want %q", name, got, value)
	}
}

// A netns is created whatever the module has no memory for: armed, or unarmed, or without
// the module's files.
func TestNetnsWithoutMemory(t *testing.T) {
	load(t, "default_enabled=1 queue_bypass=1")
	refuseMemory(t)
	n := newNetns(t)
	untilNoneFails(t, func(nth int) bool {
		child := exec.Command("cat", "/proc/net/nsqueue")
		child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
		var found strings.Builder
		child.Stdout = &found
		refused, err := n.failing(t, nth, child.Start)
		if err != nil {
			t.Fatalf("allocation %d: create a netns: %v", nth, err)
		}
		err = child.Wait()
		if !refused && (err != nil || !strings.Contains(found.String(), "\nenabled: 1\n")) {
			t.Errorf("nothing was refused, and the netns is not armed: %v, %q", err, found.String())
		}
		return refused
	})
}

// A verdict that the module cannot remember counts for its packet, and the flow stays
// queued.
func TestSettleWithoutMemory(t *testing.T) {
	load(t, "")
	refuseMemory(t)
	n := newNode(t)
	p := n.newPod(t)
	p.set(t, "generation", "1")
	p.set(t, "enabled", "1")
	f := newFlow(t, n, p, false)
	r := p.newReader(t, 80)
	r.request.Store(requestAccept)
	untilNoneFails(t, func(nth int) bool {
		p.set(t, "generation", "1") // begins with no settled flow
		f.in(t, []byte("x"))
		waiting := r.expect(t, 1)[0]
		refused, err := p.failing(t, nth, func() error { return r.accept(waiting) })
		nstest.Must(t, err)
		if got := received(t, f.pod, 1); got != 1 {
			t.Errorf("%d datagrams arrived, want 1", got)
		}
		switch { // what is between is the kernel's, which looks after the flow
		case nth == 1:
			p.awaitFlows(t, 0)
		case !refused:
			p.awaitFlows(t, 1)
		}
		return refused
	})
}
