// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/calls"
	"github.com/nsqueue/nsqueue/internal/apitest"
	"github.com/nsqueue/nsqueue/internal/spool"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// run runs the sequencer until the test ends.
func (r *rig) run(interval time.Duration) (stop func()) {
	r.t.Helper()
	r.done = make(chan spool.Verb, 100)
	ctx, cancel := context.WithCancel(r.t.Context())
	var running sync.WaitGroup
	running.Go(func() { calls.RunEvery(ctx, r.Sequencer, interval) })
	stop = func() { cancel(); running.Wait() }
	r.t.Cleanup(stop)
	return stop
}

// carriedOut waits for the end of a call.
func (r *rig) carriedOut(verb spool.Verb) {
	r.t.Helper()
	select {
	case got := <-r.done:
		if got != verb {
			r.t.Errorf("%s carried out, want %s", got, verb)
		}
	case <-time.After(time.Minute):
		r.t.Fatalf("%s is not carried out", verb)
	}
}

// With an interval that never ends, only the kernel's word counts.
func TestRunHearsOfEntries(t *testing.T) {
	r := newRig(t)
	netns := apitest.OtherNetns(t)
	nstest.Must(t, r.Replay(t.Context())) // the daemon's start
	r.spoolAdd(testKey(), netns)          // after it, and before Run
	stop := r.run(time.Hour)
	r.carriedOut(spool.Add)
	for range 20 {
		r.spoolDel(testKey())
		r.carriedOut(spool.Del)
		r.spoolAdd(testKey(), netns)
		r.carriedOut(spool.Add)
	}
	stop()
	r.want("at the end", testKey(), true, false)
}

// Some have to be tried again, and the directory may be another one by now.
func TestRunLooksAgain(t *testing.T) {
	r := newRig(t)
	var once sync.Once
	r.hold = func(spool.Verb, api.Key) (err error) {
		once.Do(func() { err = errors.New("not yet") })
		return err
	}
	stop := r.run(10 * time.Millisecond)
	r.spoolDel(testKey())
	r.carriedOut(spool.Del)
	r.carriedOut(spool.Del)

	nstest.Must(t, os.RemoveAll(r.path))
	dir, err := spool.Open(r.path)
	nstest.Must(t, err)
	old := r.dir
	r.dir = dir
	nstest.Must(t, old.Close())
	r.spoolDel(testKey())
	r.carriedOut(spool.Del)
	stop()
	r.want("at the end", testKey(), false, false)
}

// Trouble that lasts is said once.
func TestRunSaysOnce(t *testing.T) {
	r := newRig(t)
	r.hold = func(spool.Verb, api.Key) error { return errors.New("no way") }
	r.spoolDel(testKey())
	stop := r.run(time.Millisecond)
	for range 10 {
		r.carriedOut(spool.Del)
	}
	stop()
	if n := r.log.count("no way"); n != 1 {
		t.Errorf("%d lines, want 1", n)
	}
}
