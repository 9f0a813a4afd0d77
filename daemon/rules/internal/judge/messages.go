// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"unsafe"

	"github.com/nsqueue/nsqueue/daemon/rules/internal/compile"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/flowtab"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/proto/http"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/stream"
)

// text returns bytes as a text without a copy. It is valid as long as they are.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// askMessage asks the rules about p.flow, which has a message of a flow.
func (p *Pod) askMessage(f *facts, w *work, mark, mask *uint32) compile.Decision {
	g := &p.scratch
	if w != nil && !w.messages && w.rules == p.epoch {
		g = &w.progress // flows get the effects of rules that read no message once
	} else {
		g.Reset()
	}
	return p.ask(f, g, mark, mask, true)
}

// ruleMessage decides a message, and tells of it.
func (p *Pod) ruleMessage(f *facts, d compile.Decision, mark, mask uint32) {
	p.decided(f, d).OfMessage = true
	p.note.Again = false
	p.tell(f)
	p.remember(f, d, mark, mask)
}

// judgeMessage decides a message of a connection. It returns false if it is refused.
func (p *Pod) judgeMessage(f *facts, w *work) bool {
	d := p.askMessage(f, w, &w.mark, &w.markMask)
	w.messages = true
	p.ruleMessage(f, d, w.mark, w.markMask)
	return !d.Verdict.Refuses()
}

// readMessages looks at the messages of a client whose protocol has several of them.
func (p *Pod) readMessages(
	r flowtab.Ref, w *work, result stream.Result, g *stream.Segment,
) Outcome {
	f := p.table.Facts(r)
	if !f.has(decided) && p.decide(f, w) && (f.has(refused) || !p.teachesNames(f)) {
		return p.conclude(r, w)
	}
	if w.phase == opening && !p.beginMessages(r, w) {
		return p.endMessages(r, w, memory)
	}
	b := w.toServer.Bytes()[w.parsed:]
	w.parsed += len(b)
	if o, ok := p.feed(r, w, b, false); ok {
		return o
	}
	switch {
	case result.Status.Over() && result.Status != stream.Limit:
		return p.endMessages(r, w, failureOf(result.Status))
	case w.toServer.Follow(&w.server, &p.memory):
		if result.Status == stream.Limit {
			return p.follow(r, w, g)
		}
	case result.Status == stream.Limit:
		return p.endMessages(r, w, limit)
	}
	return p.between(r, w, len(g.Payload)+g.Missing > 0)
}

// teachesNames reports whether rules on other flows need what this one says.
func (p *Pod) teachesNames(f *facts) bool {
	return p.usesNames && f.app == appDNS && f.has(outward)
}

// mayTeachNames reports whether that is to be seen yet of a flow that is decided.
func (p *Pod) mayTeachNames(f *facts) bool {
	server := p.frame.key.End(!p.frame.side)
	return p.usesNames && f.has(outward) && !f.has(refused) && server.Port() == dnsPort
}

// readNames looks at the first bytes of such a flow.
func (p *Pod) readNames(
	r flowtab.Ref, w *work, result stream.Result, g *stream.Segment,
) Outcome {
	f := p.table.Facts(r)
	p.fill(p.table.Key(r), p.table.Client(r), f)
	known := f.has(knowsApp) || p.recognise(f, w.toServer.Bytes())
	switch {
	case known && p.teachesNames(f):
		return p.readMessages(r, w, result, g)
	case known || result.Status.Over():
		return p.conclude(r, w)
	}
	return p.unsettled(f)
}

// beginMessages prepares a work for the messages of its flow.
func (p *Pod) beginMessages(r flowtab.Ref, w *work) bool {
	taken := p.account.Take(pieceSize)
	for !taken && p.table.Shed(r) {
		taken = p.account.Take(pieceSize)
	}
	if taken {
		w.charged += pieceSize
		w.phase = following
	}
	return taken
}

// between answers to a packet behind which further messages may follow.
func (p *Pod) between(r flowtab.Ref, w *work, payload bool) Outcome {
	f := p.table.Facts(r)
	if f.has(decided) {
		p.table.Watch(r)
	}
	if !f.has(decided) || w.hold && w.hasPart() {
		return p.pass(f, w, payload)
	}
	return p.unsettled(f)
}

// closedRequests ends a connection whose client makes no more requests, and whose server
// knows: what the server says to the last one is not read.
func (p *Pod) closedRequests(r flowtab.Ref, w *work) Outcome {
	if !p.table.Facts(r).has(decided) {
		return p.closed(r, w)
	}
	p.finish(r, w)
	return p.remembered(r)
}

// endMessages decides a connection whose messages can be read no more.
func (p *Pod) endMessages(r flowtab.Ref, w *work, why failure) Outcome {
	f := p.table.Facts(r)
	p.fill(p.table.Key(r), p.table.Client(r), f)
	p.fail(f, why)
	p.judgeMessage(f, w)
	p.finish(r, w)
	return p.answer(p.table.Facts(r))
}

// follow takes a segment of the client behind the start of its connection.
func (p *Pod) follow(r flowtab.Ref, w *work, g *stream.Segment) Outcome {
	f := p.table.Facts(r)
	if g.Flags&stream.RST != 0 {
		return Outcome{Action: Accept, Flow: uint64(f.id)}
	}
	b, passed, status := w.server.Push(g, w.http.Body(), &p.memory)
	for status == stream.NoMemory && p.table.Shed(r) {
		b, passed, status = w.server.Push(g, w.http.Body(), &p.memory)
	}
	switch {
	case status.Refused():
		return p.refuse(r, f, status)
	case status.Over():
		return p.endMessages(r, w, failureOf(status))
	}
	if len(b) > 0 {
		p.fill(p.table.Key(r), p.table.Client(r), f)
		if o, ok := p.feed(r, w, b, false); ok {
			return o
		}
	}
	w.http.Skip(uint64(passed))
	return p.between(r, w, len(g.Payload)+g.Missing > 0)
}

// feed gives bytes to the parser of the flow's protocol. It returns true if the flow is
// decided as a whole.
func (p *Pod) feed(r flowtab.Ref, w *work, b []byte, ofServer bool) (Outcome, bool) {
	if p.table.Facts(r).app == appDNS {
		return p.feedDNS(r, w, b, ofServer)
	}
	return p.feedHTTP(r, w, b)
}

func (p *Pod) feedHTTP(r flowtab.Ref, w *work, b []byte) (Outcome, bool) {
	f, request := p.table.Facts(r), &p.tools().request
	for len(b) > 0 {
		rest, status := w.http.Next(b, request)
		b = rest
		switch status {
		case http.Complete:
			p.fillRequest(request)
		case http.Tunnel: // what the last request asked for, and was accepted
			switch {
			case f.has(decided) && w.server.Idle():
				return p.conclude(r, w), true
			case f.has(decided):
				return p.unsettled(f), true
			}
			return p.endMessages(r, w, malformed), true
		case http.Malformed:
			return p.endMessages(r, w, malformed), true
		case http.Limit:
			return p.endMessages(r, w, limit), true
		default:
			continue
		}
		if !p.judgeMessage(f, w) {
			p.finish(r, w)
			return p.answer(p.table.Facts(r)), true
		}
		if p.rules.Final(&p.flow, compile.Message) {
			return p.conclude(r, w), true
		}
	}
	return Outcome{}, false
}

// fillRequest adds a request to what is known of the flow. Its texts are the parser's.
func (p *Pod) fillRequest(q *http.Request) {
	f := &p.flow
	f.Known, f.AppError = compile.Everything, ""
	f.HTTPMethod, f.HTTPHost, f.HTTPVersion = text(q.Method), text(q.Host), text(q.Version)
	f.HTTPPath, f.HTTPQuery, f.HTTPUserAgent = text(q.Path), text(q.Query), text(q.UserAgent)
}
