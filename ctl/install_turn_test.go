// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/internal/apitest"
)

// running is an installation that goes on.
type running struct {
	out, err syncText
	stop     context.CancelFunc
	ended    chan int
}

// syncText is text that is read while it is written to.
type syncText struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncText) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncText) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func startInstall(t *testing.T, socket string, args []string) *running {
	t.Helper()
	r := &running{ended: make(chan int, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = cancel
	s := &IOStreams{
		out: &r.out, err: &r.err, now: testNow, progressAfter: time.Minute,
		getenv: func(string) string { return socket },
	}
	go func() { r.ended <- execute(ctx, s, args) }()
	t.Cleanup(cancel)
	return r
}

// says waits until one of its outputs has a text.
func (r *running) says(t *testing.T, text string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		if strings.Contains(r.out.String()+r.err.String(), text) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it does not say %q:\n%s%s", text, r.out.String(), r.err.String())
		}
	}
}

// end stops it and returns its exit status.
func (r *running) end() int {
	r.stop()
	return <-r.ended
}

// Of two watches with different settings the second one waits, or is refused. It changes
// nothing before its turn.
func TestInstallWatchIsAlone(t *testing.T) {
	m := newMachine(t)
	d := apitest.Daemon{Found: found()}
	socket := d.Start(t)
	first := startInstall(t, socket, m.install("--watch"))
	first.says(t, "repaired: "+m.list)
	installed := content(t, m.list)
	second := m.install("--watch", "--failure-policy", "Fail")
	o := nsqueuectl(t.Context(), socket, second...)
	if o.status != 1 || !strings.Contains(o.err, "another nsqueuectl install --watch is running") ||
		!strings.Contains(o.err, fmt.Sprintf("process %d) has", os.Getpid())) {
		t.Errorf("beside another one: %+v", o)
	}
	waits := startInstall(t, socket, append(second, "--wait-lock"))
	waits.says(t, "waiting for the end of another nsqueuectl install --watch")
	if now := content(t, m.list); now != installed {
		t.Errorf("it did not wait:\n%s", now)
	}
	if status := first.end(); status != 0 {
		t.Errorf("the first one: %d", status)
	}
	waits.says(t, "repaired: "+m.list)
	if now := content(t, m.list); !strings.Contains(now, "Fail") {
		t.Errorf("after its turn has come:\n%s", now)
	}
	if status := waits.end(); status != 0 {
		t.Errorf("the second one: %d, %s", status, waits.err.String())
	}
}

func TestInstallWaitsInVain(t *testing.T) {
	m := newMachine(t)
	d := apitest.Daemon{Found: found()}
	socket := d.Start(t)
	first := startInstall(t, socket, m.install("--watch"))
	first.says(t, "repaired: "+m.list)
	o := nsqueuectl(t.Context(), socket, m.install("--watch", "--wait-lock", "--timeout", "1ms")...)
	if o.status != 1 || !strings.Contains(o.err, "in vain") {
		t.Errorf("%+v", o)
	}
	if status := first.end(); status != 0 {
		t.Errorf("the first one: %d", status)
	}
}

// The plugin is copied when the supervisor's own daemon serves, and not before.
func TestInstallAfterReady(t *testing.T) {
	m := newMachine(t)
	d := apitest.Daemon{}
	var answer atomic.Value
	answer.Store(`{"role":"active","worker":{"pid":7}}`)
	dir := supervisorWith(t, func(to io.Writer) error {
		_, _ = io.WriteString(to, answer.Load().(string)) // who asks may not wait for it
		return nil
	})
	r := startInstall(t, d.Start(t), m.install("--after-ready", dir, "--timeout", "0s"))
	r.says(t, "waiting for nsqueued to be ready: nsqueued (process 7) is starting")
	absent := func() {
		t.Helper()
		if _, err := os.Lstat(m.bin + "/nsqueue"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the plugin is there: %v", err)
		}
		if got := content(t, m.list); got != stockList {
			t.Errorf("the entry is there:\n%s", got)
		}
	}
	absent()
	answer.Store(`{"role":"standby"}`) // ready, and another one's daemon serves
	absent()
	answer.Store(`{"role":"active","worker":{"pid":7,"ready":true}}`)
	if status := <-r.ended; status != 0 {
		t.Fatalf("status %d: %s", status, r.err.String())
	}
	if got := content(t, m.bin+"/nsqueue"); got != cniPlugin {
		t.Error(got)
	}
}

func TestAfterReadyOfNobody(t *testing.T) {
	m := newMachine(t)
	o := nsqueuectl(t.Context(), "/s", m.install("--after-ready", t.TempDir(), "--timeout", "1ms")...)
	if o.status != 3 || !strings.Contains(o.err, "waited for nsqueued to be ready, in vain") {
		t.Errorf("%+v", o)
	}
}

// The entry comes before the network, where the runtime reads drop-ins.
func TestInstallBeforeTheNetwork(t *testing.T) {
	for script, early := range map[string]bool{"v2.1.0": true, "1.7.27": false} {
		t.Run(script, func(t *testing.T) {
			m := newMachine(t)
			if err := os.RemoveAll(m.conf); err != nil {
				t.Fatal(err)
			}
			path := t.TempDir()
			write(t, path+"/containerd", "#!/bin/sh\necho containerd x "+script+"\n")
			if err := os.Chmod(path+"/containerd", 0o755); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", path)
			o := nsqueuectl(t.Context(), apitest.SocketPath(t), m.install("--mode", "auto", "--network", "cbr0",
				"--timeout", "1ms")...)
			entry := m.conf + "/cbr0/zz-nsqueue.conf"
			_, err := os.Stat(entry)
			if early && (o.status != 0 || err != nil || !strings.Contains(o.stdout, entry+": created")) {
				t.Errorf("%+v, %v", o, err)
			}
			if !early && (o.status != 1 || err == nil || !strings.Contains(o.err, "reads no drop-ins")) {
				t.Errorf("%+v, %v", o, err)
			}
		})
	}
}

func TestInstallFlagsTogether(t *testing.T) {
	m := newMachine(t)
	for _, more := range [][]string{
		{"--wait-lock"},
		{"--network", "cbr0"}, // beside --mode append
		{"--mode", "auto", "--network", "../x"},
		{"--watch", "--dry-run"},
	} {
		if o := nsqueuectl(t.Context(), "/s", m.install(more...)...); o.status != 2 {
			t.Errorf("%q: %+v, want status 2", more, o)
		}
	}
}
