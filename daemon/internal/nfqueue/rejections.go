// SPDX-License-Identifier: Apache-2.0

package nfqueue

import "github.com/nsqueue/nsqueue/daemon/inspect"

// rejection is a packet that the inspector has rejected.
type rejection struct {
	packet   inspect.Packet
	withheld uint32
	mark     uint32
}

// tellRejected has the ends told of the rejected packets. The verdicts come after it:
// one that settles a flow would have the kernel drop what the ends are told, too.
func (s *answers) tellRejected() {
	if r := s.reader.options.Rejecter; r != nil {
		for i := range s.rejected {
			x := &s.rejected[i]
			if !r.Reject(&x.packet, x.withheld, x.mark) {
				s.reader.Counters.Untold.Add(1)
			}
		}
	}
	s.rejected = s.rejected[:0]
}

// pass accepts a packet that is not inspected.
func (s *session) pass(p *inspect.Packet) {
	a := rawVerdict{verdict: verdictAccept}
	a.clearRequest(p)
	s.verdicts.add(p.ID, &a)
}

// clearRequest takes a request that the packet came with out of its priority.
func (r *rawVerdict) clearRequest(p *inspect.Packet) {
	if p.Priority&settleMask != 0 {
		r.priority, r.setPriority = p.Priority&^settleMask, true
	}
}
