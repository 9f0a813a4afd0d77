// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

// A command that waits prints empty lines, so that a program far away sees that it is
// there. The daemon of this test does not answer before some have come.
func TestKeepalive(t *testing.T) {
	d := silentDaemon{proceed: make(chan struct{})}
	socket := apitest.SocketPath(t)
	l, err := api.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, &d)
	var errs onText
	errs.text, errs.found = "\n\n\n", sync.OnceFunc(func() { close(d.proceed) })
	s := &IOStreams{
		out: &strings.Builder{}, err: &errs, now: testNow,
		width: func() int { return 0 }, getenv: func(string) string { return "" },
	}
	args := []string{"status", "-o", "json", "--keepalive", "100ms", "--socket", socket}
	if status := execute(t.Context(), s, args); status != statusOK {
		t.Errorf("status %d: %q", status, errs.String())
	}
	nsqueuectl(t.Context(), "", "status", "--keepalive", "1ms").want(t, statusUsage, "",
		"nsqueuectl: keepalive 1ms: want 0 or at least 100ms\nSee nsqueuectl --help.\n")
}

// A command that goes on ends with its standard input.
func TestEndWithStdin(t *testing.T) {
	d := apitest.Daemon{Packets: packets()}
	socket := d.Start(t)
	in, end := io.Pipe()
	errs := onText{text: "watching", found: sync.OnceFunc(func() { _ = end.Close() })}
	s := &IOStreams{
		in: in, out: &strings.Builder{}, err: &errs, now: testNow,
		width: func() int { return 0 }, getenv: func(string) string { return "" },
	}
	args := []string{"watch", "--end-with-stdin", "--socket", socket}
	if status := execute(t.Context(), s, args); status != statusOK {
		t.Errorf("status %d: %q", status, errs.String())
	}
}
