// SPDX-License-Identifier: Apache-2.0

package nfqueue

import "sync/atomic"

// Counters count what a reader did. They may be read at any time.
type Counters struct {
	Packets, Bytes            atomic.Uint64
	Accepted, Dropped, Queued atomic.Uint64
	// Away packets would have gone to another queue, which no program read. They are
	// among those that were accepted or dropped.
	Away atomic.Uint64
	// Rejected packets were dropped, and are not among those that were Dropped.
	Rejected atomic.Uint64
	// Untold are rejected packets of which an end could not be told.
	Untold atomic.Uint64
	// Settled packets were answered with a request to settle their flow.
	Settled atomic.Uint64
	// Malformed messages, and replacements that were refused, whose packets got
	// the policy's verdict.
	Malformed atomic.Uint64
	// Panics of the inspector. The packet or batch that it had got the policy's
	// verdict.
	Panics atomic.Uint64
	// Overruns of the time budget; the batches got the policy's verdict.
	Overruns atomic.Uint64
	// Deferred packets were kept to be answered later; they are counted by their
	// verdict, too, when they have it. Expired ones of them got the policy's: their
	// limit had passed, or the reader ended.
	Deferred, Expired atomic.Uint64
	// Undeferred packets were not kept, because too many were.
	Undeferred atomic.Uint64
	// Flushed verdicts, single or of a run, came too late: the kernel had
	// dropped the packets.
	Flushed atomic.Uint64
	// Other errors that the kernel sent back.
	Errors atomic.Uint64
	// InspectNanoseconds is how long the inspector had batches.
	InspectNanoseconds atomic.Uint64
}

func (c *Counters) add(b *batchCounters) {
	for _, x := range [...]struct {
		counter *atomic.Uint64
		n       uint64
	}{
		{&c.Packets, b.packets},
		{&c.Bytes, b.bytes},
		{&c.Accepted, b.accepted},
		{&c.Dropped, b.dropped},
		{&c.Queued, b.queued},
		{&c.Away, b.away},
		{&c.Rejected, b.rejected},
		{&c.Settled, b.settled},
		{&c.Malformed, b.malformed},
		{&c.Panics, b.panics},
		{&c.Deferred, b.deferred},
		{&c.Expired, b.expired},
		{&c.Undeferred, b.undeferred},
		{&c.Flushed, b.flushed},
		{&c.Errors, b.errors},
		{&c.InspectNanoseconds, b.nanoseconds},
	} {
		if x.n > 0 {
			x.counter.Add(x.n)
		}
	}
}

// batchCounters are what a batch adds to the counters.
type batchCounters struct {
	packets, bytes                     uint64
	accepted, dropped, queued, settled uint64
	rejected, away                     uint64
	malformed, panics, errors, flushed uint64
	deferred, expired, undeferred      uint64
	nanoseconds                        uint64 // of the inspector
}
