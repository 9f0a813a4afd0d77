// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nfqueue_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// A packet has the bytes that were to be copied when it came, and once all of a time are
// answered, none comes that was copied before.
func TestCopyRangeChanges(t *testing.T) {
	f := newFixture(t)
	q := f.bind(80)
	var copied atomic.Int64
	release := make(chan struct{}, 1)
	r := f.run(q, false, func(p *inspect.Packet) inspect.Verdict {
		<-release
		copied.Store(int64(len(p.Payload)))
		return inspect.Verdict{Action: inspect.Accept}
	})
	const headers, all = 28, 28 + 1000
	send := func(n uint32) {
		t.Helper()
		_, err := f.from.Write(make([]byte, all-headers))
		f.must(err)
		nstest.Eventually(t, reply, "the packet waits", func() bool {
			s, _, err := q.Stat(f.ns)
			f.must(err)
			return s.Sequence == n
		})
	}
	for i, want := range []struct {
		next, copied uint32 // after and before the packet
	}{{100, all}, {1, 100}, {nfqueue.MaxCopyRange, 1}, {nfqueue.MaxCopyRange, all}} {
		id := uint32(i + 1)
		send(id)
		f.must(q.SetCopyRange(want.next))
		if r.Answered(id) {
			t.Errorf("packet %d counts as answered", id)
		}
		release <- struct{}{}
		f.must(f.to.SetReadDeadline(time.Now().Add(nstest.Patient(reply))))
		_, err := f.to.Read(make([]byte, all))
		f.must(err)
		nstest.Eventually(t, reply, "it is answered", func() bool { return r.Answered(id) })
		if got := copied.Load(); got != int64(want.copied) {
			t.Errorf("packet %d: %d bytes were copied, want %d", id, got, want.copied)
		}
	}
	for _, bad := range []uint32{0, nfqueue.MaxCopyRange + 1} {
		if q.SetCopyRange(bad) == nil || q.Config().CopyRange != nfqueue.MaxCopyRange {
			t.Errorf("a copy range of %d was taken: %+v", bad, q.Config())
		}
	}
}
