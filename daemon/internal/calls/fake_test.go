// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/calls"
	"github.com/nsqueue/nsqueue/internal/boottime"
	"github.com/nsqueue/nsqueue/internal/spool"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// attached is what the fake registry knows of an attachment.
type attached struct {
	netns  os.FileInfo
	policy api.Policy
	called time.Duration
}

// fake is a registry without a kernel.
type fake struct {
	// hold, where it is set, is called in the middle of each call. Its error is
	// the call's.
	hold func(verb spool.Verb, key api.Key) error
	done chan spool.Verb // where it is set, gets each call that has ended

	busy, busiest atomic.Int32

	mu          sync.Mutex
	attachments map[api.Key]attached
}

func (f *fake) enter(verb spool.Verb, key api.Key) error {
	n := f.busy.Add(1)
	for most := f.busiest.Load(); n > most && !f.busiest.CompareAndSwap(most, n); {
		most = f.busiest.Load()
	}
	if f.hold == nil {
		return nil
	}
	return f.hold(verb, key)
}

func (f *fake) leave(verb spool.Verb) {
	f.busy.Add(-1)
	if f.done != nil {
		f.done <- verb
	}
}

func (f *fake) AttachCalled(
	_ context.Context, req api.AttachRequest, netns *os.File, called time.Duration,
) (api.Attachment, error) {
	defer f.leave(spool.Add)
	if err := f.enter(spool.Add, req.Key); err != nil {
		return api.Attachment{}, err
	}
	info, err := netns.Stat()
	if err != nil {
		return api.Attachment{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	have, ok := f.attachments[req.Key]
	switch {
	case !ok:
		f.attachments[req.Key] = attached{info, req.FailurePolicy, called}
	case !os.SameFile(info, have.netns) || have.policy != req.FailurePolicy:
		return api.Attachment{}, api.Errorf(api.CodeConflict, "another one")
	}
	return api.Attachment{Key: req.Key}, nil
}

func (f *fake) DetachOlder(
	_ context.Context, req api.DetachRequest, called time.Duration,
) error {
	key := req.Key
	defer f.leave(spool.Del)
	if err := f.enter(spool.Del, key); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if have, ok := f.attachments[key]; ok && have.called < called {
		delete(f.attachments, key)
	}
	return nil
}

// get returns an attachment.
func (f *fake) get(key api.Key) (attached, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, ok := f.attachments[key]
	return a, ok
}

func (f *fake) all() map[api.Key]attached {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.attachments)
}

// logBuffer is what was logged.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

// rig is a sequencer with a registry behind it and a plugin before it.
type rig struct {
	*calls.Sequencer
	fake

	t    *testing.T
	path string
	dir  *spool.Dir
	log  logBuffer
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, path: filepath.Join(t.TempDir(), "spool")}
	r.attachments = make(map[api.Key]attached)
	r.Sequencer = calls.New(r.path, &r.fake, slog.New(slog.NewTextHandler(&r.log, nil)))
	dir, err := spool.Open(r.path)
	nstest.Must(t, err)
	r.dir = dir
	t.Cleanup(func() {
		nstest.Must(t, dir.Close())
		if t.Failed() {
			t.Log(r.log.b.String())
		}
	})
	return r
}

func testKey() api.Key { return api.Key{ContainerID: "c0ffee", Ifname: "eth0"} }

func request(key api.Key, netns string) api.AttachRequest {
	return api.AttachRequest{
		Key: key, Network: "cbr0", Origin: api.OriginCNI, NetnsPath: netns,
		FailurePolicy: api.Ignore,
	}
}

// add is an ADD over the socket.
func (r *rig) add(key api.Key, netns string) error {
	r.t.Helper()
	f, err := os.Open(netns)
	nstest.Must(r.t, err)
	defer f.Close()
	_, err = r.Attach(r.t.Context(), request(key, netns), f)
	return err
}

// spoolDel is a DEL that the plugin could not deliver, called now.
func (r *rig) spoolDel(key api.Key) *spool.Entry {
	r.t.Helper()
	e, err := spool.NewDel(key, boottime.Now())
	nstest.Must(r.t, err)
	nstest.Must(r.t, r.dir.Write(e))
	return e
}

// spoolAdd is the same for an ADD.
func (r *rig) spoolAdd(key api.Key, netns string) *spool.Entry {
	r.t.Helper()
	f, err := os.Open(netns)
	nstest.Must(r.t, err)
	defer f.Close()
	e, err := spool.NewAdd(request(key, netns), f, boottime.Now())
	nstest.Must(r.t, err)
	nstest.Must(r.t, r.dir.Write(e))
	return e
}

// spooled reports whether the key has an entry.
func (r *rig) spooled(key api.Key) bool {
	r.t.Helper()
	_, err := r.dir.Read(key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.t.Fatal(err)
	}
	return err == nil
}

// want checks whether the key is attached, and whether it has an entry.
func (r *rig) want(what string, key api.Key, isAttached, isSpooled bool) {
	r.t.Helper()
	if _, ok := r.get(key); ok != isAttached {
		r.t.Errorf("%s: attached %t, want %t", what, ok, isAttached)
	}
	if got := r.spooled(key); got != isSpooled {
		r.t.Errorf("%s: spooled %t, want %t", what, got, isSpooled)
	}
}
