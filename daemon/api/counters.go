// SPDX-License-Identifier: Apache-2.0

package api

// Counters are what the daemon did with an attachment's packets since it
// attached. Packets the kernel let pass or dropped without asking are not in
// here. Attachments that share a netns share their counters.
type Counters struct {
	Packets  uint64 `json:"packets"`
	Bytes    uint64 `json:"bytes"`
	Accepted uint64 `json:"accepted"`
	Dropped  uint64 `json:"dropped"`
	// Queued went on to another queue by verdict.
	Queued uint64 `json:"queued"`
	// Away would have gone on to the queue of a program that did not read. They are among
	// those that were Accepted or Dropped.
	Away uint64 `json:"away"`
	// Rejected were dropped by verdict, and the ends of their flows told. They are not
	// among those that were Dropped.
	Rejected uint64 `json:"rejected"`
	// Untold were rejected, too, but an end was not told: there were more than are
	// answered, or the pod's kernel took no answer.
	Untold uint64 `json:"untold"`
	// Settled were answered with the request to settle their flow.
	Settled uint64 `json:"settled"`
	// Malformed packets got the policy's verdict without inspection, or because
	// their replacement was refused.
	Malformed uint64 `json:"malformed"`
	// Panics of the inspector; the packet or batch that it had got the policy's
	// verdict.
	Panics uint64 `json:"panics"`
	// Overruns of the inspector's time budget; each such batch of packets got
	// the policy's verdict and is in no other counter.
	Overruns uint64 `json:"overruns"`
	// Flushed verdicts, each for a packet or for a run of them, came when the
	// kernel had dropped the packets already: it drops all that wait in a netns
	// when a program unregisters a hook there, such as an nftables base chain.
	Flushed uint64 `json:"flushed"`
	// Deferred packets were kept to be answered later; they are in the counter of
	// their verdict, too, once they have it. Expired ones of them got the policy's:
	// their limit had passed, or inspection ended.
	Deferred uint64 `json:"deferred"`
	Expired  uint64 `json:"expired"`
	// Undeferred packets were not kept, because too many were.
	Undeferred uint64 `json:"undeferred"`
	// Errors the kernel reported on the queue socket otherwise.
	Errors uint64 `json:"errors"`
	// InspectNanoseconds is how long the inspector took.
	InspectNanoseconds uint64 `json:"inspectNanoseconds"`
}

// Add adds o to c.
func (c *Counters) Add(o Counters) {
	c.Packets += o.Packets
	c.Bytes += o.Bytes
	c.Accepted += o.Accepted
	c.Dropped += o.Dropped
	c.Queued += o.Queued
	c.Away += o.Away
	c.Rejected += o.Rejected
	c.Untold += o.Untold
	c.Settled += o.Settled
	c.Malformed += o.Malformed
	c.Panics += o.Panics
	c.Overruns += o.Overruns
	c.Flushed += o.Flushed
	c.Deferred += o.Deferred
	c.Expired += o.Expired
	c.Undeferred += o.Undeferred
	c.Errors += o.Errors
	c.InspectNanoseconds += o.InspectNanoseconds
}

// Sub takes o, which c has grown from, off c.
func (c *Counters) Sub(o Counters) {
	c.Packets -= o.Packets
	c.Bytes -= o.Bytes
	c.Accepted -= o.Accepted
	c.Dropped -= o.Dropped
	c.Queued -= o.Queued
	c.Away -= o.Away
	c.Rejected -= o.Rejected
	c.Untold -= o.Untold
	c.Settled -= o.Settled
	c.Malformed -= o.Malformed
	c.Panics -= o.Panics
	c.Overruns -= o.Overruns
	c.Flushed -= o.Flushed
	c.Deferred -= o.Deferred
	c.Expired -= o.Expired
	c.Undeferred -= o.Undeferred
	c.Errors -= o.Errors
	c.InspectNanoseconds -= o.InspectNanoseconds
}
