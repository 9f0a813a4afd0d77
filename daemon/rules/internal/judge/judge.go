// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/compile"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/flowtab"
)

// Judge takes a packet that came at a moment, which is never before the last one.
func (p *Pod) Judge(packet *Packet, now time.Duration) Outcome {
	h := readHeader(packet)
	if r := p.repeatOf(packet, h); r != nil {
		p.table.Touch(r.flow, now)
		return r.outcome
	}
	f := &p.frame
	if !f.read(packet, now) {
		return Outcome{}
	}
	o := p.judge()
	p.noteRepeat(packet, h, &o)
	f.packet, f.ip.Payload, f.flow.Transport = nil, nil, nil
	return o
}

func (p *Pod) judge() Outcome {
	f := &p.frame
	switch {
	case f.isFragment():
		f.setKey(0, 0)
		return p.other()
	case f.flow.Protocol == inspect.ProtoTCP:
		return p.tcp()
	case f.flow.Protocol == inspect.ProtoUDP:
		return p.udp()
	case f.flow.Protocol == inspect.ProtoICMP, f.flow.Protocol == inspect.ProtoICMPv6:
		return p.icmp()
	}
	return p.other()
}

// forged reports whether the receiver will throw the packet away for its checksum.
func (p *Pod) forged() bool {
	f := &p.frame
	if !f.packet.Unverified || f.packet.Direction == inspect.Out || f.truncated() > 0 {
		return false
	}
	if right, known := inspect.VerifyChecksum(f.ip.Payload); right || !known {
		return false
	}
	p.checksums++
	return true
}

// other judges a packet of a protocol whose payload nobody looks at.
func (p *Pod) other() Outcome {
	f := &p.frame
	if r := p.table.Find(&f.key, f.now); r != 0 && !p.beginsOwn(r) {
		p.learnUser(r, nil)
		return p.remembered(r)
	}
	fresh := p.newFacts()
	fresh.flags |= knowsApp
	return p.begin(f.side, fresh)
}

// beginsOwn reports whether the pod sends a packet against a flow from outside that was
// refused. The pod has nothing to answer, so it begins a flow of its own. What comes from
// outside never does: it may answer what passed before the pod's flow was refused.
func (p *Pod) beginsOwn(r flowtab.Ref) bool {
	f := p.table.Facts(r)
	return f.has(refused) && f.flags&(outward|datagrams) == 0 && p.frame.isOut() &&
		p.frame.side != p.table.Client(r)
}

// learnUser notes whose socket the packet comes from, if that was not asked for when its
// flow began. What was decided without it is decided again.
func (p *Pod) learnUser(r flowtab.Ref, w *work) {
	f := p.table.Facts(r)
	user := p.frame.packet.user()
	if f.user != noUser || user == noUser || !f.has(outward) || !p.frame.isOut() {
		return
	}
	f.user = user
	f.rules = p.version - 1
	if w != nil {
		w.rules = p.epoch - 1
	}
}

// awaitsUser reports whether the flow's next packet may tell whose its socket is, and that
// matters.
func (p *Pod) awaitsUser(f *facts) bool {
	return p.usesUser && f.user == noUser && f.has(outward) && !p.frame.isOut()
}

// remembered answers to a packet of a decided flow.
func (p *Pod) remembered(r flowtab.Ref) Outcome {
	f := p.table.Facts(r)
	if f.rules != p.version {
		p.judgeAgain(p.table.Key(r), p.table.Client(r), f)
	}
	return p.answer(f)
}

// begin remembers a flow that is decided with its first packet.
func (p *Pod) begin(client flowtab.Side, f facts) Outcome {
	r, ok := p.table.Add(&p.frame.key, client, p.frame.now)
	if !ok {
		return Outcome{}
	}
	facts := p.table.Facts(r)
	*facts = f
	p.nameServer(facts, p.frame.key.End(!client).Addr())
	return p.decideAt(r, facts)
}

// decideAt decides a flow of which everything is known that rules could ask.
func (p *Pod) decideAt(r flowtab.Ref, f *facts) Outcome {
	p.fill(p.table.Key(r), p.table.Client(r), f)
	p.scratch.Reset()
	var mark, mask uint32
	d := p.ask(f, &p.scratch, &mark, &mask, false)
	if d.Verdict == compile.Undecided {
		p.fail(f, f.failure)
		d = p.ask(f, &p.scratch, &mark, &mask, false)
	}
	p.rule(f, d, mark, mask)
	p.table.Decide(r, *f)
	return p.answer(p.table.Facts(r))
}
