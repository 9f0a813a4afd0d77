// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/compile"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/flowtab"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/stream"
)

// tcp judges a segment.
func (p *Pod) tcp() Outcome {
	f := &p.frame
	g, ok := stream.Parse(f.flow.Transport, f.length)
	if !ok {
		return Outcome{}
	}
	r := p.table.Find(&f.key, f.now)
	var w *work
	if r != 0 {
		w = p.state(r)
	}
	if (w != nil || r == 0 || g.Opens()) && p.forged() {
		return Outcome{Action: Drop, By: byChecksum}
	}
	switch {
	case g.Opens() && p.isAnother(r, w):
		return p.open(r, &g)
	case r == 0 && g.Flags&stream.RST != 0:
		return Outcome{Action: Accept}
	case r == 0:
		return p.older(&g)
	}
	p.noteEnd(r, &g)
	p.learnUser(r, w)
	if w != nil {
		w = p.refresh(r, w)
	}
	switch {
	case w == nil && g.Flags&stream.RST != 0:
		return Outcome{Action: Accept, Flow: uint64(p.table.Facts(r).id)}
	case w == nil:
		return p.steadily(r)
	case f.side == p.table.Client(r):
		return p.fromClient(r, w, &g)
	}
	return p.fromServer(r, w, &g)
}

// isAnother reports whether a SYN begins another flow than the one that is remembered.
// The stream of a flow can tell itself while it is there. Both sides may have sent their
// SYN.
func (p *Pod) isAnother(r flowtab.Ref, w *work) bool {
	switch {
	case r == 0, w == nil, !w.toServer.Started() && w.phase == following:
		return true
	case p.table.Client(r) == p.frame.side:
		return false
	}
	return w.phase != opening || len(w.toServer.Bytes()) > 0
}

// noteEnd lets a flow be forgotten soon after its end. It may be one that the other side
// does not believe, so the flow does not end at once. One that is not accepted stays: what
// comes after it was forgotten would be midstream.
func (p *Pod) noteEnd(r flowtab.Ref, g *stream.Segment) {
	f := p.table.Facts(r)
	if g.Flags&(stream.RST|stream.FIN) != 0 && f.has(decided) && !f.has(refused) {
		p.table.SetIdle(r, afterEnd)
	}
}

// older begins with a connection whose start nobody has seen.
func (p *Pod) older(g *stream.Segment) Outcome {
	f := &p.frame
	client := f.side
	if g.Flags&stream.SYN != 0 || !ephemeral(f.flow.SourcePort, f.flow.DestinationPort) {
		client = !client
	}
	fresh := p.newFacts()
	if client != f.side {
		fresh.set(outward, f.packet.Direction == inspect.In)
		fresh.user = noUser
	}
	fresh.flags |= midstream
	fresh.failure = isMidstream
	return p.begin(client, fresh)
}

// ephemeral reports whether a port looks like that of a client, compared with the other.
func ephemeral(port, other uint16) bool { return port >= other }

// open begins with a connection whose SYN this is. Where the flow of an older one is
// remembered, that stays until the other side answers.
func (p *Pod) open(old flowtab.Ref, g *stream.Segment) Outcome {
	f := &p.frame
	fresh := p.newFacts()
	o := readOptions(f.flow.Transport)
	fresh.set(mptcp, o.mptcp)
	fresh.set(fastOpen, o.fastOpen || len(g.Payload)+g.Missing > 0)
	if o.joins && p.enforces {
		return p.refuseSubflow(&fresh)
	}
	var before facts
	hasBefore := old != 0 && p.state(old) == nil
	if hasBefore {
		before = *p.table.Facts(old)
		p.hellos.hold(before.hello)
		p.names.hold(before.names)
	}
	r, w := p.add(f.side, fresh)
	if w == nil {
		p.release(&before)
		return Outcome{}
	}
	w.before, w.hasBefore = before, hasBefore
	w.toServer.Init(toServerLimit)
	fp := p.table.Facts(r)
	p.fill(&f.key, f.side, fp)
	if !p.decide(fp, w) {
		return p.fromClient(r, w, g)
	}
	if p.mayTeachNames(fp) {
		p.table.Watch(r)
		return p.fromClient(r, w, g)
	}
	p.finish(r, w)
	return p.answer(p.table.Facts(r))
}

// refuseSubflow refuses a SYN that joins a connection of MPTCP.
func (p *Pod) refuseSubflow(f *facts) Outcome {
	p.fill(&p.frame.key, p.frame.side, f)
	p.note = Note{Kind: Subflow, Verdict: compile.Rejected}
	p.tell(f)
	return Outcome{Action: Reject, Flow: uint64(f.id), By: bySubflow}
}

// add begins an undecided flow.
func (p *Pod) add(client flowtab.Side, f facts) (flowtab.Ref, *work) {
	r, ok := p.table.Add(&p.frame.key, client, p.frame.now)
	if !ok {
		return 0, nil
	}
	w := p.newWork()
	for w == nil && p.table.Shed(r) {
		w = p.newWork()
	}
	if w == nil {
		p.table.Remove(r)
		return 0, nil
	}
	*p.table.State(r) = w
	*p.table.Facts(r) = f
	p.nameServer(p.table.Facts(r), p.frame.key.End(!client).Addr())
	return r, w
}

// fromClient judges a segment to the server.
func (p *Pod) fromClient(r flowtab.Ref, w *work, g *stream.Segment) Outcome {
	f := p.table.Facts(r)
	p.acknowledge(w, g, false)
	if w.phase == following && !w.toServer.Started() {
		return p.follow(r, w, g)
	}
	result := w.toServer.Push(g, &p.memory)
	for result.Status == stream.NoMemory && p.table.Shed(r) {
		result = w.toServer.Push(g, &p.memory)
	}
	payload := len(g.Payload)+g.Missing > 0
	switch {
	case g.Flags&stream.RST != 0:
		return Outcome{Action: Accept, Flow: uint64(f.id)}
	case result.Status.Refused():
		return p.refuse(r, f, result.Status)
	case w.hasBefore && !w.toServer.Confirmed() && result.Status == stream.Unconfirmed:
		return p.rememberedBefore(w, p.table.Client(r))
	case w.phase == closing:
		return p.unsettled(f)
	}
	if result.Grew || result.Ended || result.Status.Over() {
		return p.read(r, w, g, result)
	}
	if f.has(decided) {
		return p.unsettled(f)
	}
	return p.undecided(r, f, w, payload)
}

// undecided answers to a packet that tells nothing new.
func (p *Pod) undecided(r flowtab.Ref, f *facts, w *work, payload bool) Outcome {
	if w.rules != p.epoch {
		p.fill(p.table.Key(r), p.table.Client(r), f)
		if p.decide(f, w) {
			return p.conclude(r, w)
		}
	}
	return p.pass(f, w, payload)
}

// unsettled is the answer to a packet of a decided flow that the kernel must not have yet.
func (p *Pod) unsettled(f *facts) Outcome {
	o := p.answer(f)
	o.Settle = o.Settle && o.Action != Accept
	return o
}

// rememberedBefore answers to a packet of the connection before.
func (p *Pod) rememberedBefore(w *work, client flowtab.Side) Outcome {
	f := &w.before
	if f.rules != p.version {
		p.judgeAgain(&p.frame.key, client, f)
	}
	o := p.answer(f)
	o.Settle = false
	return o
}

// refuse drops a segment, whatever the rules say.
func (p *Pod) refuse(r flowtab.Ref, f *facts, why stream.Status) Outcome {
	o := Outcome{Action: Drop, Flow: uint64(f.id), By: byOutside}
	if why == stream.Conflict {
		p.tellConflict(r, f)
		o.By = byConflict
	} else {
		p.outside++
	}
	return o
}

func (p *Pod) tellConflict(r flowtab.Ref, f *facts) {
	p.fill(p.table.Key(r), p.table.Client(r), f)
	p.flow.AppError = conflict.String()
	p.countFailure(f.app, conflict)
	p.note = Note{Kind: Conflict, Verdict: compile.Dropped}
	p.tell(f)
}

// conclude ends the work of a flow that was just decided, as soon as that is possible.
func (p *Pod) conclude(r flowtab.Ref, w *work) Outcome {
	f := p.table.Facts(r)
	if f.has(refused) {
		p.finish(r, w)
		return p.answer(p.table.Facts(r))
	}
	settles := p.rulings[f.ruling].outcome.Settle
	if len(w.toServer.Bytes()) == 0 {
		p.finish(r, w)
		return p.answer(p.table.Facts(r))
	}
	p.table.Watch(r)
	if w.phase = closing; !settles && f.app == appTLS {
		w.phase = second
		return p.answer(f)
	}
	w.toServer.Decide(&p.memory)
	return p.unsettled(f)
}

// fromServer judges a segment to the client.
func (p *Pod) fromServer(r flowtab.Ref, w *work, g *stream.Segment) Outcome {
	f := p.table.Facts(r)
	if w.phase == following && !w.toServer.Started() {
		p.acknowledge(w, g, true)
		if f.app == appHTTP && w.server.ClosedBy(g) {
			return p.closedRequests(r, w)
		}
		return p.toClient(r, w, g)
	}
	ack := w.toServer.Acknowledge(g, &p.memory)
	if w.hasBefore && w.toServer.Confirmed() {
		p.release(&w.before)
		w.hasBefore = false
	}
	switch {
	case w.hasBefore:
		return p.rememberedBefore(w, p.table.Client(r))
	case ack == stream.Restarted:
		return p.startAgain(r, w, g)
	case w.phase == closing && ack == stream.All:
		p.finish(r, w)
		return p.remembered(r)
	case !f.has(decided) && w.toServer.ClosedBy(g):
		return p.closed(r, w)
	case ack == stream.Gap && !f.has(decided):
		p.fill(p.table.Key(r), p.table.Client(r), f)
		p.end(r, w, gap)
		return p.answer(p.table.Facts(r))
	}
	return p.toClient(r, w, g)
}

// startAgain makes a flow that of a connection whose SYN came later, and was answered.
func (p *Pod) startAgain(r flowtab.Ref, w *work, g *stream.Segment) Outcome {
	f := p.table.Facts(r)
	p.restart(w)
	p.release(f)
	*f = facts{id: p.nextID(), user: f.user, flags: f.flags & outward}
	p.fill(p.table.Key(r), p.table.Client(r), f)
	if p.decide(f, w) {
		return p.conclude(r, w)
	}
	return p.toClient(r, w, g)
}

// acknowledge tells the tail of one direction what the other confirms.
func (p *Pod) acknowledge(w *work, g *stream.Segment, ofClient bool) {
	if ofClient {
		w.server.Acknowledge(g, &p.memory)
		return
	}
	w.client.Acknowledge(g, &p.memory)
	w.toClient.Acknowledge(g, &p.memory)
}

// toClient judges what the server says: of DNS it is read, else nothing is.
func (p *Pod) toClient(r flowtab.Ref, w *work, g *stream.Segment) Outcome {
	f := p.table.Facts(r)
	if g.Flags&stream.RST != 0 {
		return Outcome{Action: Accept, Flow: uint64(f.id)}
	}
	if o, ok := p.fromServerDNS(r, w, g); ok {
		return o
	}
	if f.has(decided) {
		return p.unsettled(f)
	}
	return p.undecided(r, f, w, false)
}

const (
	afterEnd = 30 * time.Second
	// ofOpen is for connections that are refused, but open: both ends may wait until
	// nothing is remembered of them.
	ofOpen = 18 * time.Hour
)
