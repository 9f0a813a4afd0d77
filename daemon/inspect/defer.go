// SPDX-License-Identifier: Apache-2.0

package inspect

import "time"

// Defer keeps the packet waiting in the kernel, to have its verdict later: by
// Release of what Defer returns, from any goroutine, or by the failure policy once the
// limit has passed. It is for Inspect, which then answers the action [Defer], and for
// InspectBatch.
//
// It returns false, and keeps nothing, where the inspector does not declare
// [Needs].Defers, where too many packets of the queue are deferred, and where the
// reader ends. Then Inspect decides by itself: the action Defer leaves the packet to
// the failure policy. The limit is at most [MaxDefer].
//
// The packet and its payload are the daemon's again when Inspect returns, as always:
// the inspector copies what it needs of them. If Inspect answers another action than
// Defer, panics or takes too long, that decides, and what Release said has no effect.
func (p *Packet) Defer(limit time.Duration) (Deferred, bool) {
	if p.Deferrer == nil {
		return Deferred{}, false
	}
	return p.Deferrer.Defer(p, limit)
}

// MaxDefer is the longest time for which a verdict is deferred.
const MaxDefer = time.Minute

// Deferred is the right to give a packet its verdict. It is a small value: copy it,
// and compare it with others. The zero Deferred is about no packet.
type Deferred struct {
	by     Releaser
	ticket uint64
}

// Release gives the packet its verdict, once. It returns false, and does nothing,
// where the packet has one: by an earlier Release, because its limit has passed, or
// because the reader has ended. After Detached (see [AttachmentObserver]) that is so
// for all packets of the attachment.
//
// Packets go on in the order in which they are released, and before those about which
// Inspect answers later, in this and in other batches: an inspector that has made up
// its mind releases what it has of the flow, oldest first, and then answers. The
// verdict may be any but Defer, which leaves the packet to the failure policy, as
// NoVerdict does.
func (d Deferred) Release(v Verdict) bool {
	return d.by != nil && d.by.Release(d.ticket, v)
}

// Ticket is the Releaser's number of the packet.
func (d Deferred) Ticket() uint64 { return d.ticket }

// ReleaseAll gives held[i] the verdict verdicts[i], and returns for how many Release
// would have returned true. It costs less than to release one by one, the least where
// what has waited longest comes first.
func ReleaseAll(held []Deferred, verdicts []Verdict) (released int) {
	for len(held) > 0 {
		by, n := held[0].by, 1
		for n < len(held) && held[n].by == by {
			n++
		}
		if by != nil {
			released += by.ReleaseAll(held[:n], verdicts[:n])
		}
		held, verdicts = held[n:], verdicts[n:]
	}
	return released
}

// NewDeferred returns the right to have a packet released by a Releaser, which is a
// pointer. It is for those who implement [Deferrer].
func NewDeferred(by Releaser, ticket uint64) Deferred {
	return Deferred{by: by, ticket: ticket}
}

// Deferrer is who keeps packets for an inspector: the daemon, or a test.
type Deferrer interface {
	// Defer does what [Packet.Defer] is asked for.
	Defer(p *Packet, limit time.Duration) (Deferred, bool)
}

// Releaser takes the verdicts about deferred packets.
type Releaser interface {
	// Release gives the packet of a ticket its verdict, once.
	Release(ticket uint64, v Verdict) bool
	// ReleaseAll gives packets that are all its own their verdicts, in this order, and
	// returns how many had none.
	ReleaseAll(held []Deferred, verdicts []Verdict) int
}
