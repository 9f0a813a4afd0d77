// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// seen is a packet as it is looked at for all watchers: its headers are read
// once, and only when a watcher needs them.
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
	network     netip.Prefix
	// node are the node's own addresses where their packets are left out. They
	// change.
	node atomic.Pointer[addresses]
}

type addresses map[netip.Addr]bool

// init makes it the filter of a request, or says what is wrong with that.
func (f *filter) init(r api.WatchRequest) (err error) {
	f.request = r
	f.protocol, f.hasProtocol = inspect.ProtocolNumber(r.Protocol)
	f.network, err = r.Network()
	return err
}

// wants reports whether the watch is about the packet.
func (f *filter) wants(s *seen) bool {
	if !f.wantsPod(s) {
		return false
	}
	r := &f.request
	asked := f.hasProtocol || r.Port != 0 || f.network.IsValid()
	if !asked && !r.NoProbes {
		return true
	}
	flow, ok := s.headers()
	if !ok { // no header says that it is from or to the node
		return !asked
	}
	return (!f.hasProtocol || f.protocol == flow.Protocol) &&
		(r.Port == 0 || r.Port == flow.SourcePort || r.Port == flow.DestinationPort) &&
		f.wantsAddresses(flow)
}

// wantsPod looks at what needs no header of the packet.
func (f *filter) wantsPod(s *seen) bool {
	r, a := &f.request, s.packet.Attachment
	return (r.Namespace == "" || r.Namespace == a.PodNamespace) &&
		(r.Pod == "" || r.Pod == a.PodName) &&
		(r.Direction == "" || r.Direction == s.packet.Direction.String()) &&
		(r.Verdict == "" || r.Verdict == s.verdict.Action.String()) &&
		(r.Rule == "" || api.MatchRule(r.Rule, api.CutRule(s.verdict.Reason)))
}

func (f *filter) wantsAddresses(flow *inspect.Flow) bool {
	if f.network.IsValid() && !f.network.Contains(flow.Source) &&
		!f.network.Contains(flow.Destination) {
		return false
	}
	node := f.node.Load()
	return node == nil || !(*node)[flow.Source] && !(*node)[flow.Destination]
}

// nodeAddresses returns the addresses of the netns that this process is in, but
// for those that every netns has.
func nodeAddresses() (addresses, error) {
	found, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("find the node's addresses: %w", err)
	}
	node := addresses{}
	for _, a := range found {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil {
			return nil, fmt.Errorf("find the node's addresses: %w", err)
		}
		if addr := prefix.Addr().Unmap().WithZone(""); !addr.IsLoopback() {
			node[addr] = true
		}
	}
	return node, nil
}

// rateLimit lets so many packets a second through, and never waits. What a quiet
// second leaves is saved up, a second's worth at most. Asking it costs a reader no
// look at the clock.
type rateLimit struct {
	perSecond int64     // 0 is all
	renewed   time.Time // up to when it is earned
	left      atomic.Int64
}

// setRate begins with a second's worth.
func (l *rateLimit) setRate(perSecond uint32, now time.Time) {
	l.perSecond, l.renewed = int64(perSecond), now
	l.left.Store(l.perSecond)
}

// renew adds what was earned meanwhile. One at a time may call it.
func (l *rateLimit) renew(now time.Time) {
	if l.perSecond == 0 {
		return
	}
	elapsed := now.Sub(l.renewed)
	earned := l.perSecond
	if elapsed < time.Second {
		earned = int64(elapsed) * l.perSecond / int64(time.Second)
		// The time of a part of a packet counts the next time.
		now = l.renewed.Add(time.Duration(earned * int64(time.Second) / l.perSecond))
	}
	l.renewed = now
	for {
		left := l.left.Load()
		if l.left.CompareAndSwap(left, min(left+earned, l.perSecond)) {
			return
		}
	}
}

// allows reports whether one more packet may be reported.
func (l *rateLimit) allows() bool {
	for l.perSecond > 0 {
		left := l.left.Load()
		if left == 0 {
			return false
		}
		if l.left.CompareAndSwap(left, left-1) {
			return true
		}
	}
	return true
}
