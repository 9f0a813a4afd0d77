// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"sync/atomic"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// seen is a packet as it is looked at for all watchers: its headers are read
// once, and not before somebody wants to know.
type seen struct {
	packet  *inspect.Packet
	verdict inspect.Verdict
	mark    uint32

	read    bool
	flow    inspect.Flow
	hasFlow bool
}

// headers returns what the packet's headers say, false where they cannot be read.
func (s *seen) headers() (*inspect.Flow, bool) {
	if !s.read {
		s.read = true
		s.flow, s.hasFlow = s.packet.Flow()
	}
	return &s.flow, s.hasFlow
}

// filter is a request in the terms of packets. A field that was not asked for
// has its zero value.
type filter struct {
	request     api.WatchRequest
	protocol    uint8
	hasProtocol bool
}

// newFilter returns the filter of a valid request.
func newFilter(r api.WatchRequest) filter {
	f := filter{request: r}
	f.protocol, f.hasProtocol = inspect.ProtocolNumber(r.Protocol)
	return f
}

// wants reports whether the watch is about the packet.
func (f *filter) wants(s *seen) bool {
	r, a := &f.request, s.packet.Attachment
	switch {
	case r.Namespace != "" && r.Namespace != a.PodNamespace,
		r.Pod != "" && r.Pod != a.PodName,
		r.Direction != "" && r.Direction != s.packet.Direction.String(),
		r.Verdict != "" && r.Verdict != s.verdict.Action.String():
		return false
	}
	if !f.hasProtocol && r.Port == 0 {
		return true
	}
	flow, ok := s.headers()
	return ok && (!f.hasProtocol || f.protocol == flow.Protocol) &&
		(r.Port == 0 || r.Port == flow.SourcePort || r.Port == flow.DestinationPort)
}

// parts is how many parts a second has, each with its share of the rate.
const parts = 20

// pace lets so many packets through until it is renewed, and never waits. Asking
// it costs a reader no look at the clock.
type pace struct {
	perSecond, part int64 // perSecond 0 is all
	left            atomic.Int64
}

func (p *pace) setRate(perSecond uint32) {
	p.perSecond = int64(perSecond)
	p.renew()
}

// renew begins the next part of a second.
func (p *pace) renew() {
	p.left.Store(p.until(p.part+1) - p.until(p.part))
	p.part = (p.part + 1) % parts
}

// until is how many may come before that part of a second.
func (p *pace) until(part int64) int64 { return (p.perSecond*part + parts - 1) / parts }

// allows reports whether one more packet may be reported.
func (p *pace) allows() bool { return p.perSecond == 0 || p.left.Add(-1) >= 0 }
