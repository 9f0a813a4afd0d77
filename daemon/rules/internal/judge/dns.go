// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"errors"

	"github.com/nsqueue/nsqueue/daemon/rules/internal/compile"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/flowtab"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/proto/dns"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/stream"
)

// readDNS reads a message into the tools, and notes what is wrong with it. What comes
// before a fault is read all the same.
func (p *Pod) readDNS(b []byte, cut bool) *dns.Message {
	m := &p.tools().message
	err := m.Parse(b)
	why := noFailure
	switch {
	case err == nil:
	case cut && errors.Is(err, dns.ErrShort):
		why = truncated
	case errors.Is(err, dns.ErrLimit):
		why = limit
	default:
		why = malformed
	}
	p.countFailure(appDNS, why)
	f := &p.flow
	f.Known, f.AppError = compile.Everything, why.String()
	f.DNSResponse, f.DNSRCode = m.Response, int64(m.RCode)
	return m
}

// askDNS asks the rules about each question of a message, and about one that could not be
// read or is not there. The strictest answer counts, and p.flow is what it was about.
func (p *Pod) askDNS(f *facts, w *work, m *dns.Message, mark, mask *uint32) compile.Decision {
	var strictest compile.Decision
	var which *dns.Question
	n := len(m.Questions)
	for i := range n + 1 {
		var q *dns.Question
		switch {
		case i < n:
			q = &m.Questions[i]
		case n > 0 && m.Asked():
			continue
		}
		p.fillQuestion(q)
		d := p.askMessage(f, w, mark, mask)
		if w != nil {
			w.messages = true
		}
		if i == 0 || d.Verdict > strictest.Verdict {
			strictest, which = d, q
		}
	}
	p.fillQuestion(which)
	return strictest
}

func (p *Pod) fillQuestion(q *dns.Question) {
	p.flow.DNSName, p.flow.DNSType = "", ""
	if q != nil {
		p.flow.DNSName, p.flow.DNSType = text(q.Name), dns.TypeName(q.Type)
	}
}

// feedDNS judges the messages that bytes of a connection complete.
func (p *Pod) feedDNS(r flowtab.Ref, w *work, b []byte, ofServer bool) (Outcome, bool) {
	f, s := p.table.Facts(r), &w.dns[0]
	if ofServer {
		s = &w.dns[1]
	}
	for len(b) > 0 {
		message, rest, ok := s.Next(b)
		b = rest
		if !ok {
			break
		}
		m := p.readDNS(message, s.Cut())
		d := p.askDNS(f, w, m, &w.mark, &w.markMask)
		p.ruleMessage(f, d, w.mark, w.markMask)
		w.messages = true
		if d.Verdict.Refuses() {
			p.finish(r, w)
			return p.answer(p.table.Facts(r)), true
		}
		p.learnNames(p.table.Key(r), p.table.Client(r), f, m)
	}
	return Outcome{}, false
}

// fromServerDNS reads what a server of DNS says. It returns false if there is nothing to
// decide.
func (p *Pod) fromServerDNS(r flowtab.Ref, w *work, g *stream.Segment) (Outcome, bool) {
	f := p.table.Facts(r)
	isDNS := f.app == appDNS && w.phase == following
	if !isDNS && g.Flags&stream.SYN == 0 {
		return Outcome{}, false
	}
	if g.Flags&stream.SYN != 0 && !w.toClient.Started() {
		w.toClient.Init(toClientLimit)
	}
	var b []byte
	var status stream.Status
	if w.clientFollows {
		b, _, status = w.client.Push(g, 0, &p.memory)
	} else {
		result := w.toClient.Push(g, &p.memory)
		status = result.Status
		if result.Grew {
			b = w.toClient.Bytes()[w.answered:]
			w.answered += len(b)
		}
	}
	if !isDNS {
		return Outcome{}, false
	}
	return p.answerDNS(r, w, g, b, status)
}

func (p *Pod) answerDNS(
	r flowtab.Ref, w *work, g *stream.Segment, b []byte, status stream.Status,
) (Outcome, bool) {
	f := p.table.Facts(r)
	if status.Refused() {
		return p.refuse(r, f, status), true
	}
	if len(b) > 0 {
		p.fill(p.table.Key(r), p.table.Client(r), f)
		if o, ok := p.feedDNS(r, w, b, true); ok {
			return o, true
		}
	}
	switch {
	case status.Over() && status != stream.Limit:
		return p.endMessages(r, w, failureOf(status)), true
	case !w.clientFollows && w.toClient.Started() && w.toClient.Follow(&w.client, &p.memory):
		w.clientFollows = true
		if status == stream.Limit {
			return p.fromServerDNS(r, w, g)
		}
	case status == stream.Limit:
		return p.endMessages(r, w, limit), true
	}
	return p.between(r, w, false), true
}
