// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"github.com/nsqueue/nsqueue/daemon/rules/internal/flowtab"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/proto/dns"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/proto/quic"
)

// merged judges datagrams that the kernel has merged. It does not tell where each of them
// begins: they have to tell themselves.
func (p *Pod) merged(r flowtab.Ref, b []byte, cut bool) (o Outcome) {
	if p.hasMessages(r, b) {
		return p.mergedMessages(b, cut)
	}
	for first := true; len(b) > 0 || first; first = false {
		piece, rest := quic.Split(b)
		one := p.datagram(piece, cut && len(rest) == 0)
		if b = rest; first || stricter(one.Action, o.Action) {
			o = one
		}
	}
	return o
}

// hasMessages reports whether each datagram of the packet's flow is judged.
func (p *Pod) hasMessages(r flowtab.Ref, b []byte) bool {
	if r != 0 && !p.beginsOwn(r) {
		return p.table.Facts(r).has(datagrams)
	}
	if p.frame.flow.DestinationPort == dnsPort {
		return true
	}
	return dns.Recognise(b) == dns.Yes && quic.Recognise(b) != quic.Yes
}

// mergedMessages judges messages of DNS. All but the last are as long as the first, which
// tells its length. Where they do not fit, one of them may be hidden, and nothing passes.
func (p *Pod) mergedMessages(b []byte, cut bool) Outcome {
	m := &p.tools().message
	_ = m.Parse(b) // what is behind the first message is malformed
	size := m.End()
	for rest := b; len(rest) > 0; rest = rest[min(size, len(rest)):] {
		if size == 0 || m.Parse(rest[:min(size, len(rest))]) != nil {
			p.outside++
			return Outcome{Action: Drop, By: byOutside}
		}
	}
	return p.datagrams(b, cut, size)
}

// datagrams judges several datagrams, of which all but the last have this size.
func (p *Pod) datagrams(b []byte, cut bool, size int) (o Outcome) {
	for first := true; len(b) > 0; first = false {
		n := min(size, len(b))
		one := p.datagram(b[:n:n], cut && n == len(b))
		if b = b[n:]; first || stricter(one.Action, o.Action) {
			o = one
		}
	}
	return o
}

// stricter orders what becomes of the datagrams of a packet.
func stricter(a, b Action) bool {
	order := [...]uint8{None: 6, Accept: 0, Drop: 5, Reject: 4, Pass: 1, Hold: 2}
	return order[a] > order[b]
}
