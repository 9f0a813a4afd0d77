// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"testing"
	"time"
)

// SetClock gives the reader another clock, before a poller has it.
func (r *Reader) SetClock(now func() time.Duration) { r.clock = now }

// Turns gives the reader turns in the goroutine that calls what it returns, which
// reports how many packets it has answered. A reader has them in place of a poller.
func (r *Reader) Turns(tb testing.TB) func() int {
	tb.Helper()
	b, err := newBatch(messageSize(r.queue.config.CopyRange))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := b.close(); err != nil {
			tb.Error(err)
		}
	})
	return func() int {
		stats, err := r.serve(b)
		if err != nil {
			tb.Fatal(err)
		}
		return stats.packets
	}
}
