// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"sync/atomic"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// seen is a packet as it is looked at for all watchers: its headers are read
// once.
type seen struct {
	packet  *inspect.Packet
	verdict inspect.Verdict
	mark    uint32
	flow    inspect.Flow
	hasFlow bool
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
		r.Verdict != "" && r.Verdict != s.verdict.Action.String(),
		f.hasProtocol && (!s.hasFlow || f.protocol != s.flow.Protocol),
		r.Port != 0 && r.Port != s.flow.SourcePort && r.Port != s.flow.DestinationPort:
		return false
	}
	return true
}

// paces is how often in a second a rate begins anew.
const paces = 10

// pace lets so many packets through at a time, and never waits.
type pace struct {
	each uint32 // 0 is all
	now  atomic.Int64
	used atomic.Uint32
}

func (p *pace) setRate(perSecond uint32) {
	p.each = perSecond / paces
	if perSecond%paces != 0 {
		p.each++
	}
}

// allows reports whether one more packet may be reported at a time. Readers that
// ask at the same moment may get a few more.
func (p *pace) allows(t time.Time) bool {
	if p.each == 0 {
		return true
	}
	now := t.UnixNano() / int64(time.Second/paces)
	if last := p.now.Load(); last != now && p.now.CompareAndSwap(last, now) {
		p.used.Store(0)
	}
	return p.used.Add(1) <= p.each
}
