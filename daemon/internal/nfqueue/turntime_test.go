// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nfqueue_test

import (
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
)

// A turn in which packets take long ends with its first batch, so that other queues of the
// poller have theirs.
func TestTurnEndsInTime(t *testing.T) {
	const batch, batches = 64, 3
	for name, tt := range map[string]struct {
		each time.Duration
		want int
	}{
		"no time":     {0, batch * batches},
		"a long time": {time.Millisecond, batch},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			q := f.bind(80)
			t.Cleanup(func() { f.must(q.Close()) })
			now := time.Second
			o := options(nil)
			o.Inspector = inspect.Func(func(*inspect.Packet) inspect.Verdict {
				now += tt.each
				return accepted()
			})
			r, err := nfqueue.NewReader(q, false, o)
			f.must(err)
			r.SetClock(func() time.Duration { return now })
			turn := r.Turns(t)
			for range batch * batches {
				_, err := f.from.Write([]byte("x"))
				f.must(err)
			}
			if got := turn(); got != tt.want {
				t.Errorf("a turn answers %d packets, want %d", got, tt.want)
			}
			for answered := tt.want; answered < batch*batches; {
				answered += turn()
			}
		})
	}
}
