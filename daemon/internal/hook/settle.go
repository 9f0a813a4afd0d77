// SPDX-License-Identifier: Apache-2.0

package hook

import (
	"fmt"
	"time"
)

// Settle lets a verdict decide for the rest of its flow: the kernel then
// accepts or drops the flow's packets, in both directions, without queueing
// them. Only TCP, UDP, UDP-Lite and SCTP have flows that can be settled; an
// ICMP error is queued whatever becomes of the flow that it refers to.
//
// The verdict asks for it by what [Settle.Request] returns, in the bits of the
// packet's priority under [SettleMask] (NFQA_PRIORITY, Linux 5.18; an older
// kernel ignores the attribute). The other bits are to
// be the origin priority's. The hook clears its bits before it queues a packet
// and after the verdict, so that no origin priority is taken for a request.
//
// A request to drop comes in a verdict that accepts: the kernel drops at once
// what a verdict drops, and the hook would not see it. The hook then drops the
// packet, also when the request is of another generation, and also when settling
// is off by then or the direction is not selected any more: from an Arm with
// settling on until [Handle.Remove], the hook heeds requests to drop in the
// directions of that Arm, by whatever it is armed or disarmed since. It clears
// its bits for as long. Still, a reader must know that settling goes off before
// Arm or Disarm says so to the kernel, and must not ask where settling was never
// on, nor on kernels before 5.18: the packet would pass.
//
// A packet that opens a connection is queued, though its flow be settled:
// nothing was decided about the new connection. One of TCP, with SYN and without
// ACK, also ends the flow, when it comes and again when its verdict does, because
// packets that waited before it may have settled the earlier connection
// meanwhile. A UDP datagram opens a connection where it begins as QUIC's long
// headers do: with the two highest bits set, or to or from port 443, with the
// highest. It leaves the flow settled, as it may belong to the connection that
// is there. A packet that is cut off before what tells is queued too.
//
// A packet whose flow cannot be settled, because there are too many or memory
// is short, gets its verdict and the flow stays queued. Where verdicts of one
// flow differ, drop wins.
type Settle struct {
	// Generation of what verdicts are based on, 1 to [MaxGeneration]; requests
	// of another generation are ignored. 0 switches settling off.
	Generation uint8
	// Timeout is how long a flow stays settled after the last request, if
	// nothing ends it before. Packets that pass do not make it longer.
	Timeout time.Duration
	// Size is how many flows can be settled at a time. Address families and
	// verdicts may be counted apart.
	Size uint32
}

// Limits of Settle.
const (
	// MaxGeneration is what a request has room for.
	MaxGeneration = 1<<6 - 1
	// MaxSettleSize is far more flows than a pod has, and a bound for the
	// kernel's memory, some 300 bytes each while they are settled.
	MaxSettleSize = 1 << 20
	// SettleMask are the bits of a packet's priority that are the hook's.
	SettleMask = 0xff000000

	minSettleTimeout = 10 * time.Millisecond
	maxSettleTimeout = 24 * time.Hour

	// SettleDrop is the bit that all requests to drop have.
	SettleDrop = 1 << 31

	settleAccept = 1 << 30
	settleShift  = 24
)

// On reports whether flows can be settled.
func (s Settle) On() bool { return s.Generation != 0 }

// Validate reports the first field that cannot be. Where settling is off, no
// field matters.
func (s Settle) Validate() error {
	switch {
	case !s.On():
		return nil
	case s.Generation > MaxGeneration:
		return fmt.Errorf("settle generation %d: want at most %d", s.Generation, MaxGeneration)
	case s.Timeout < minSettleTimeout || s.Timeout > maxSettleTimeout:
		return fmt.Errorf("settle timeout %v: want %v to %v",
			s.Timeout, minSettleTimeout, maxSettleTimeout)
	case s.Size == 0 || s.Size > MaxSettleSize:
		return fmt.Errorf("settle size %d: want 1 to %d", s.Size, MaxSettleSize)
	}
	return nil
}

// Request returns the bits of the priority, all under [SettleMask], by which a
// verdict settles its flow; none where settling is off.
func (s Settle) Request(drop bool) uint32 {
	if !s.On() {
		return 0
	}
	request := uint32(settleAccept)
	if drop {
		request = SettleDrop
	}
	return request | uint32(s.Generation)<<settleShift
}
