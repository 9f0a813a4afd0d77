// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"encoding/binary"

	"github.com/nsqueue/nsqueue/daemon/rules/internal/compile"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/flowtab"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/proto/dns"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/proto/quic"
)

const (
	udpHeader = 8
	dnsPort   = 53
)

// udp judges a packet of UDP, which may have several datagrams.
func (p *Pod) udp() Outcome {
	f := &p.frame
	payload, cut, ok := datagram(f.flow.Transport, f.length)
	if !ok {
		return Outcome{}
	}
	r := p.table.Find(&f.key, f.now)
	if (r == 0 || p.state(r) != nil || p.table.Facts(r).has(datagrams)) && p.forged() {
		return Outcome{Action: Drop, By: byChecksum}
	}
	if f.packet.Merged && p.reads() {
		return p.merged(r, payload, cut)
	}
	return p.datagramOf(r, payload, cut)
}

// datagram returns the payload of a UDP header, and whether it was copied in part.
func datagram(b []byte, length int) (payload []byte, cut, ok bool) {
	if len(b) < udpHeader {
		return nil, false, false
	}
	n := int(binary.BigEndian.Uint16(b[4:]))
	if n == 0 { // more than 64 KiB
		n = length
	}
	if n < udpHeader || n > length {
		return nil, false, false
	}
	return b[udpHeader:min(n, len(b))], n > len(b), true
}

// datagram judges one datagram.
func (p *Pod) datagram(b []byte, cut bool) Outcome {
	return p.datagramOf(p.table.Find(&p.frame.key, p.frame.now), b, cut)
}

// datagramOf judges one datagram of a flow, or one that begins with a flow.
func (p *Pod) datagramOf(r flowtab.Ref, b []byte, cut bool) Outcome {
	f := &p.frame
	if r == 0 || p.beginsOwn(r) || p.asksItself(r, b) {
		return p.firstDatagram(b, cut)
	}
	facts := p.table.Facts(r)
	fromClient := f.side == p.table.Client(r)
	p.learnUser(r, p.state(r))
	switch w := p.state(r); {
	case facts.has(datagrams), p.becomesDatagrams(r, facts):
		return p.judgeDatagram(r, facts, b, cut, fromClient)
	case w != nil:
		return p.quic(r, w, b, cut, fromClient)
	case fromClient && p.bytes && isInitial(b):
		return p.anotherHello(r, b)
	}
	return p.steadily(r)
}

// reads reports whether rules read what datagrams carry, or need what is learnt from it.
func (p *Pod) reads() bool { return p.bytes || p.usesNames }

// becomesDatagrams has the datagrams of a flow to a server of DNS decided one by one from
// now on, because other rules read them.
func (p *Pod) becomesDatagrams(r flowtab.Ref, f *facts) bool {
	if f.rules == p.version || !f.has(decided) || !p.reads() ||
		p.table.Key(r).End(!p.table.Client(r)).Port() != dnsPort {
		return false
	}
	f.flags |= datagrams
	return true
}

// asksItself reports whether the pod sends a query against a flow of DNS from outside, in
// which it would answer. Otherwise a forged packet could spoil a port for the pod.
func (p *Pod) asksItself(r flowtab.Ref, b []byte) bool {
	f := p.table.Facts(r)
	return f.flags&(outward|datagrams) == datagrams && p.frame.isOut() &&
		p.frame.side != p.table.Client(r) && recogniseDatagram(b) == appDNS
}

// firstDatagram begins with a flow.
func (p *Pod) firstDatagram(b []byte, cut bool) Outcome {
	f := &p.frame
	fresh := p.newFacts()
	switch app := recogniseDatagram(b); {
	case (f.flow.DestinationPort == dnsPort || app == appDNS) && p.reads():
		fresh.flags |= datagrams
		r, ok := p.table.Add(&f.key, f.side, f.now)
		if !ok {
			return Outcome{}
		}
		p.nameServer(&fresh, f.flow.Destination)
		p.table.Decide(r, fresh)
		return p.judgeDatagram(r, p.table.Facts(r), b, cut, true)
	case app == appQUIC && p.bytes:
		fresh.app = app
		return p.firstInitial(fresh, b, cut)
	default:
		fresh.app = app
		fresh.flags |= knowsApp
		return p.begin(f.side, fresh)
	}
}

// recogniseDatagram says what a client speaks whose first datagram this is.
func recogniseDatagram(b []byte) app {
	if len(b) == 0 {
		return appNone
	}
	if quic.Recognise(b) == quic.Yes {
		return appQUIC
	}
	if dns.Recognise(b) == dns.Yes {
		return appDNS
	}
	return appUnknown
}

// judgeDatagram decides a datagram of a flow whose datagrams are decided one by one.
func (p *Pod) judgeDatagram(r flowtab.Ref, f *facts, b []byte, cut, fromClient bool) Outcome {
	p.fill(p.table.Key(r), p.table.Client(r), f)
	var mark, mask uint32
	if fromClient {
		f.app = recogniseDatagram(b)
	}
	var d compile.Decision
	p.flow.KnowApp(f.app.String())
	if f.app == appDNS {
		m := p.readDNS(b, cut)
		d = p.askDNS(f, nil, m, &mark, &mask)
	} else {
		p.flow.Known = compile.Everything
		d = p.askMessage(f, nil, &mark, &mask)
	}
	p.ruleMessage(f, d, mark, mask)
	if f.app == appDNS && !d.Verdict.Refuses() {
		p.learnNames(p.table.Key(r), p.table.Client(r), f, &p.tools().message)
	}
	return p.answer(f)
}
