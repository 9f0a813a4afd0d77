// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

// silentDaemon answers Status when it is told to proceed.
type silentDaemon struct {
	apitest.Daemon
	proceed chan struct{}
}

func (d *silentDaemon) Status(ctx context.Context) (api.Status, error) {
	<-d.proceed
	return d.Daemon.Status(ctx)
}

// A command that waits says for what. The daemon of this test does not answer
// before that.
func TestProgress(t *testing.T) {
	for line, want := range map[string]string{
		"status": "waiting for nsqueued to answer\n",
		"doctor": "still checking: daemon\n",
	} {
		d := silentDaemon{proceed: make(chan struct{})}
		socket := apitest.SocketPath(t)
		l, err := api.Listen(socket)
		if err != nil {
			t.Fatal(err)
		}
		serve(t, l, &d)
		dir := t.TempDir()
		var out strings.Builder
		var errs onText
		errs.text, errs.found = want, sync.OnceFunc(func() { close(d.proceed) })
		s := &IOStreams{
			out: &out, err: &errs, now: testNow, progressAfter: time.Millisecond, root: dir,
			width: func() int { return 0 }, getenv: func(string) string { return "" },
		}
		execute(t.Context(), s, []string{line, "--socket", socket})
		if got := errs.String(); !strings.Contains(got, want) {
			t.Errorf("%s: stderr %q, want %q", line, got, want)
		}
	}
}

// onText calls a function when a text has been written.
type onText struct {
	strings.Builder
	text  string
	found func()
}

func (w *onText) Write(b []byte) (int, error) {
	n, err := w.Builder.Write(b)
	if strings.Contains(w.Builder.String(), w.text) {
		w.found()
	}
	return n, err
}

// Nothing is printed once it has been stopped.
func TestProgressStops(t *testing.T) {
	var errs strings.Builder
	c := &command{IOStreams: &IOStreams{err: &errs, progressAfter: time.Nanosecond}}
	asked, proceed := make(chan struct{}), make(chan struct{})
	stop := c.showProgress(func() string {
		close(asked)
		<-proceed
		return "too late"
	})
	<-asked
	stop()
	close(proceed)
	if got := errs.String(); got != "" {
		t.Errorf("%q", got)
	}
}
