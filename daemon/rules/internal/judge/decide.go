// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"math"
	"slices"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/compile"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/flowtab"
)

// ask asks the rules about p.flow, and adds to the marks.
func (p *Pod) ask(
	f *facts, g *compile.Progress, mark, mask *uint32, message bool,
) compile.Decision {
	if p.rules == nil {
		return compile.Decision{Verdict: compile.Accepted}
	}
	d := p.rules.Decide(&p.flow, g)
	for i := range g.Effects {
		e := &g.Effects[i]
		if e.Action == compile.Mark && !e.Audit {
			*mark = *mark&^e.Rule.MarkMask | e.Rule.Mark
			*mask |= e.Rule.MarkMask
			continue
		}
		p.effect(f, e, message)
	}
	return d
}

// effect tells of an effect. Those of rules that read no message are told once a flow.
func (p *Pod) effect(f *facts, e *compile.Effect, message bool) {
	ofFlow := !message || e.Rule != nil && e.Rule.Reads&compile.Message == 0
	if ofFlow && f.has(again) {
		return
	}
	p.note = Note{
		Kind: Effect, Set: e.Set, Rule: e.Rule, Midstream: e.Midstream,
		Action: e.Action, Audit: e.Audit, OfMessage: message,
	}
	p.tell(f)
}

// tell gives the note to the observer.
func (p *Pod) tell(f *facts) {
	if p.config.Observer == nil {
		return
	}
	n := &p.note
	n.ID, n.Flow = uint64(f.id), &p.flow
	if n.Packet = p.frame.packet; n.Packet != nil {
		n.ToServer = f.has(outward) == p.frame.isOut()
	}
	p.config.Observer.Note(n)
}

// decided makes the note of a decision.
func (p *Pod) decided(f *facts, d compile.Decision) *Note {
	p.note = Note{
		Kind: Decided, ID: uint64(f.id), Flow: &p.flow, Again: f.has(again),
		Verdict: d.Verdict, Set: d.Set, Rule: d.Rule, Midstream: d.Midstream,
	}
	return &p.note
}

// decide asks the rules about a flow that has a work. It returns false if that is not
// decided yet.
func (p *Pod) decide(f *facts, w *work) bool {
	if w.rules != p.epoch {
		w.progress.Reset()
		w.rules = p.epoch
	}
	d := p.ask(f, &w.progress, &w.mark, &w.markMask, false)
	if d.Verdict == compile.Undecided {
		w.hold = p.holds(d.Set)
		return false
	}
	p.rule(f, d, w.mark, w.markMask)
	return true
}

// holds reports whether packets wait while a set has not decided. A set that audits
// changes nothing: those behind it say.
func (p *Pod) holds(s *compile.Set) bool {
	if !s.Audit {
		return s.Hold
	}
	sets := p.rules.Sets()
	return slices.ContainsFunc(sets[slices.Index(sets, s):], func(s *compile.Set) bool {
		return s.Hold && !s.Audit
	})
}

// rule notes what was decided of a flow.
func (p *Pod) rule(f *facts, d compile.Decision, mark, mask uint32) {
	p.decided(f, d)
	p.tell(f)
	p.remember(f, d, mark, mask)
}

// remember keeps a decision.
func (p *Pod) remember(f *facts, d compile.Decision, mark, mask uint32) {
	f.set(refused, d.Verdict.Refuses())
	f.flags |= decided | again
	f.rules = p.version
	r := ruling{d, mark, mask}
	number, ok := p.rulingOf[r]
	if !ok && len(p.rulings) <= math.MaxUint16 {
		number = uint16(len(p.rulings))
		p.rulings = append(p.rulings, r.answered())
		p.rulingOf[r] = number
	}
	f.ruling = number
	if number == 0 { // there is no room: it is decided again
		p.rulings[0] = r.answered()
		f.rules--
	}
}

// answer returns what was decided of a flow, as that of a packet.
func (p *Pod) answer(f *facts) Outcome {
	o := p.rulings[f.ruling].outcome
	o.Flow = uint64(f.id)
	if f.has(datagrams) || p.awaitsUser(f) ||
		f.has(refused) && !p.isConnection() && !f.has(outward) {
		o.Settle = false
	}
	return o
}

// isConnection reports whether the packet is of a protocol whose flows have a start that
// nobody can forge. The kernel must not refuse what the pod sends because somebody has sent
// it a packet between the same ports.
func (p *Pod) isConnection() bool { return p.frame.flow.Protocol == inspect.ProtoTCP }

func actionOf(v compile.Verdict) Action {
	switch v {
	case compile.Rejected:
		return Reject
	case compile.Dropped:
		return Drop
	}
	return Accept
}

// judgeAgain decides a flow by rules that came after its decision, with what is
// remembered of it. What is not remembered is as if the flow was older than the pod's
// judge.
func (p *Pod) judgeAgain(key *flowtab.Key, client flowtab.Side, f *facts) {
	p.fill(key, client, f)
	p.scratch.Reset()
	var mark, mask uint32
	d := p.ask(f, &p.scratch, &mark, &mask, false)
	if d.Verdict == compile.Undecided {
		p.flow.Midstream = true
		known := f.flags
		p.fail(f, isMidstream)
		f.set(knowsApp, known&knowsApp != 0)
		f.set(knowsHello, known&knowsHello != 0)
		p.scratch.Reset()
		d = p.ask(f, &p.scratch, &mark, &mask, false)
	}
	if wasRefused := f.has(refused); wasRefused != d.Verdict.Refuses() {
		p.decided(f, d)
		p.tell(f)
	}
	p.remember(f, d, mark, mask)
}

// giveUp decides a flow whose time or memory is over, and returns what is remembered.
func (p *Pod) giveUp(r flowtab.Ref, u **work, why flowtab.Why) facts {
	f := *p.table.Facts(r)
	w := *u
	if w == nil {
		return f
	}
	*u = nil
	if w.hasBefore && w.quic == nil && !w.toServer.Confirmed() {
		p.release(&f)
		f, w.before, w.hasBefore = w.before, facts{}, false
		p.freeWork(w)
		return f
	}
	if !f.has(decided) || w.phase == following {
		reason := timeout
		if why == flowtab.Memory {
			reason = memory
		}
		packet := p.frame.packet
		p.frame.packet = nil
		saved := p.flow
		p.fill(p.table.Key(r), p.table.Client(r), &f)
		p.fail(&f, reason)
		p.decide(&f, w)
		p.flow, p.frame.packet = saved, packet
	}
	p.keepOpen(r, &f, w)
	p.freeWork(w)
	return f
}

// end decides a flow with all that will be known of it, and forgets its work.
func (p *Pod) end(r flowtab.Ref, w *work, why failure) {
	f := p.table.Facts(r)
	p.fail(f, why)
	p.decide(f, w)
	p.finish(r, w)
}

// finish forgets the work of a flow that is decided.
func (p *Pod) finish(r flowtab.Ref, w *work) {
	facts := *p.table.Facts(r)
	p.keepOpen(r, &facts, w)
	*p.table.State(r) = nil
	p.freeWork(w)
	p.table.Decide(r, facts)
}

// keepOpen has a connection remembered for long that is refused, but open.
func (p *Pod) keepOpen(r flowtab.Ref, f *facts, w *work) {
	if f.has(refused) && w.toServer.Confirmed() {
		p.table.SetIdle(r, ofOpen)
	}
}

// pass lets a packet of an undecided flow pass, or wait.
func (p *Pod) pass(f *facts, w *work, payload bool) Outcome {
	o := Outcome{Action: Pass, Mark: w.mark, MarkMask: w.markMask, Flow: uint64(f.id)}
	if w.hold && payload {
		o.Action = Hold
	}
	return o
}

// nextID returns the number of another flow.
func (p *Pod) nextID() uint32 {
	if p.lastID++; p.lastID == 0 {
		p.lastID = 1
	}
	return p.lastID
}

// newFacts returns those of a flow that begins with the packet.
func (p *Pod) newFacts() facts {
	f := facts{id: p.nextID(), user: noUser}
	if p.frame.isOut() {
		f.flags = outward
		f.user = p.frame.packet.user()
	}
	return f
}

// refresh decides a flow again that has a work and was decided by other rules. It returns
// the work, or nil if nothing is left to learn.
func (p *Pod) refresh(r flowtab.Ref, w *work) *work {
	f := p.table.Facts(r)
	if !f.has(decided) || f.rules == p.version {
		return w
	}
	if w.phase == following && p.follows(r, f, w) {
		return w
	}
	p.judgeAgain(p.table.Key(r), p.table.Client(r), f)
	if !f.has(refused) && w.phase != following {
		return w
	}
	p.finish(r, w)
	return nil
}

// follows reports whether the rules still have to see the messages of a flow, which was
// not refused so far. It is accepted then until the next message.
func (p *Pod) follows(r flowtab.Ref, f *facts, w *work) bool {
	p.fill(p.table.Key(r), p.table.Client(r), f)
	p.scratch.Reset()
	var mark, mask uint32
	d := p.ask(f, &p.scratch, &mark, &mask, false)
	if d.Verdict != compile.Undecided {
		return false
	}
	w.hold = p.holds(d.Set)
	p.remember(f, compile.Decision{Verdict: compile.Accepted}, mark, mask)
	return true
}
