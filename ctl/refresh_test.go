// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

// --watch shows the same again: a terminal is cleared, a pipe is not, and
// programs get an object a line.
func TestWatching(t *testing.T) {
	t.Parallel()
	d := apitest.Daemon{Attachments: attachments()}
	socket := d.Start(t)
	for line, word := range map[string]string{
		"list --watch": "CONTAINER ID", "status -w": "Version:", "list -w -o json": "\n",
	} {
		for _, width := range []int{0, 80} {
			t.Run(fmt.Sprintf("%s, %d columns", line, width), func(t *testing.T) {
				t.Parallel()
				got := watchTwice(t, socket, line, word, width)
				terminal := width > 0 && !strings.Contains(line, "json")
				if strings.Contains(got, "\x1b") != terminal {
					t.Errorf("%q", got)
				}
				for shown := range strings.Lines(strings.ReplaceAll(got, text.ClearScreen, "")) {
					if terminal && len([]rune(shown)) > width+1 {
						t.Errorf("more than %d columns: %q", width, shown)
					}
				}
			})
		}
	}
}

// watchTwice runs a command until a word was printed twice.
func watchTwice(t *testing.T, socket, line, word string, width int) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out := &stopWriter{word: word, times: 2, stop: cancel}
	s := &IOStreams{
		out: out, err: &bytes.Buffer{}, now: testNow, width: func() int { return width },
		height: func() int { return 0 }, getenv: func(string) string { return "" },
	}
	if status := execute(ctx, s, append(strings.Fields(line), "--socket", socket)); status != 0 {
		t.Errorf("status %d", status)
	}
	return out.String()
}

// stopWriter calls stop when a word was written so many times.
type stopWriter struct {
	strings.Builder

	word  string
	times int
	stop  func()
}

func (w *stopWriter) Write(b []byte) (int, error) {
	n, err := w.Builder.Write(b)
	if strings.Count(w.Builder.String(), w.word) >= w.times {
		w.stop()
	}
	return n, err
}

// startable returns a socket, and what has the daemon answer there until it is
// stopped.
func startable(t *testing.T, d *apitest.Daemon) (socket string, listen func() (stop func())) {
	t.Helper()
	socket = apitest.SocketPath(t)
	return socket, func() func() {
		l, err := api.Listen(socket)
		if err != nil {
			t.Fatal(err)
		}
		return d.Serve(t, l)
	}
}

// Over a restart it waits, says so once, and continues.
func TestWatchingDaemonAway(t *testing.T) {
	d := apitest.Daemon{Attachments: attachments()}
	socket, listen := startable(t, &d)
	stop := listen()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &stopWriter{word: "CONTAINER ID", times: 1, stop: sync.OnceFunc(stop)}
	errs := onWrite{first: sync.OnceFunc(func() {
		out.times, out.stop = 2, cancel
		listen()
	})}
	s := &IOStreams{
		out: out, err: &errs, now: testNow, width: func() int { return 0 },
		getenv: func(string) string { return "" },
	}
	status := execute(ctx, s, []string{"list", "--watch", "--socket", socket})
	if got := errs.String(); status != 0 || got != noAnswer+"\n" ||
		strings.Count(out.String(), "0fd4") < 2 {
		t.Errorf("status %d, %q, %q", status, got, out.String())
	}
}

// Only the pods that are asked for are shown.
func TestPodFilters(t *testing.T) {
	d := apitest.Daemon{
		Attachments: attachments(), Happened: happened(), Described: described(),
	}
	socket := d.Start(t)
	for _, command := range []string{
		"list", "events", "stats --once --interval 100ms", "list -o wide", "list -o yaml",
	} {
		for filter, want := range map[string]bool{
			"-n default": true, "--pod busybox1": true, "--pod default/busybox1": true,
			"-n other": false, "--pod default/other": false,
		} {
			o := nsqueuectl(t.Context(), socket, strings.Fields(command+" "+filter)...)
			if o.status != 0 || strings.Contains(o.stdout, "busybox1") != want ||
				strings.Contains(o.stdout, "0fd4") {
				t.Errorf("%s %s: %+v", command, filter, o)
			}
		}
		o := nsqueuectl(t.Context(), socket, strings.Fields(command+" -n a --pod b/c")...)
		if o.status != 2 {
			t.Errorf("%s: %+v", command, o)
		}
	}
}

func TestListWide(t *testing.T) {
	d := apitest.Daemon{Attachments: attachments()}
	o := nsqueuectl(t.Context(), d.Start(t), "list", "-o", "wide")
	for _, want := range []string{
		"NETNS COOKIE", "0fd31c8e5a2b77aa01", "cbr0", "4097", "/run/netns/a", "manual",
	} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("no %q in\n%s", want, o.stdout)
		}
	}
}
