// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"github.com/nsqueue/nsqueue/daemon/rules/internal/compile"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/flowtab"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/proto/dns"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/proto/http"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/proto/ssh"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/proto/tls"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/stream"
)

// How much of a stream is looked at (see docs of stream).
const (
	toServerLimit = 16 << 10
	toClientLimit = 8 << 10
)

// An answer is what all parsers say of first bytes, in a type of their own.
type answer uint8

const (
	answerUndecided answer = iota
	answerYes
	answerNo
)

// read looks at the bytes of the client, of which there are more, or no more will come.
func (p *Pod) read(r flowtab.Ref, w *work, g *stream.Segment, result stream.Result) Outcome {
	f := p.table.Facts(r)
	payload := len(g.Payload)+g.Missing > 0
	if w.phase == second {
		return p.readSecond(r, w, result)
	}
	if w.phase == opening && f.has(decided) {
		return p.readNames(r, w, result, g)
	}
	p.fill(p.table.Key(r), p.table.Client(r), f)
	b := w.toServer.Bytes()
	if !f.has(knowsApp) && !p.recognise(f, b) && !result.Status.Over() {
		return p.undecided(r, f, w, payload)
	}
	if f.has(knowsApp) && (f.app == appHTTP || f.app == appDNS) {
		return p.readMessages(r, w, result, g)
	}
	switch {
	case f.has(knowsApp) && p.decide(f, w):
		return p.conclude(r, w)
	case f.has(knowsApp) && p.readHello(f, w, b):
	case result.Status.Over():
		p.fail(f, failureOf(result.Status))
	default:
		return p.pass(f, w, payload)
	}
	p.decide(f, w)
	return p.conclude(r, w)
}

// closed decides a connection whose client said no more, and whose server knows.
func (p *Pod) closed(r flowtab.Ref, w *work) Outcome {
	f := p.table.Facts(r)
	p.fill(p.table.Key(r), p.table.Client(r), f)
	why := malformed
	if !f.has(knowsApp) {
		why = noFailure
		if len(w.toServer.Bytes()) > 0 {
			f.app = appUnknown
			f.flags |= knowsApp
			p.flow.KnowApp(f.app.String())
		}
	}
	p.end(r, w, why)
	return p.answer(p.table.Facts(r))
}

func failureOf(s stream.Status) failure {
	switch s {
	case stream.Limit:
		return limit
	case stream.Malformed:
		return malformed
	case stream.Truncated:
		return truncated
	case stream.NoMemory:
		return memory
	case stream.Midstream:
		return isMidstream
	}
	return gap
}

// recognise notes what the client speaks, and returns false if that is not certain yet.
func (p *Pod) recognise(f *facts, b []byte) bool {
	a, ok := recognise(b)
	if ok {
		f.app = a
		f.flags |= knowsApp
		p.flow.KnowApp(a.String())
	}
	return ok
}

// recognise says what a client of TCP speaks that begins with these bytes, and false if
// more of them will tell.
func recognise(b []byte) (app, bool) {
	undecided := false
	for _, of := range [...]struct {
		app    app
		answer answer
	}{
		{appTLS, answer(tls.Recognise(b))},
		{appHTTP, answer(http.Recognise(b))},
		{appH2, answer(http.RecogniseH2(b))},
		{appSSH, answer(ssh.Recognise(b))},
		{appDNS, answer(dns.RecogniseStream(b))},
	} {
		switch of.answer {
		case answerYes:
			return of.app, !undecided
		case answerUndecided:
			undecided = true
		}
	}
	return appUnknown, !undecided
}

// readHello looks for the ClientHello, and returns false if it is not complete.
func (p *Pod) readHello(f *facts, w *work, b []byte) bool {
	t := p.tools()
	message, status := w.joiner.Join(b, t.joined[:0])
	if status == tls.Complete {
		status = t.hello.Parse(message)
	}
	switch status {
	case tls.More:
		return false
	case tls.Complete:
		p.learnHello(f, &t.hello, tls.TCP)
	case tls.Limit:
		p.fail(f, limit)
	default:
		p.fail(f, malformed)
	}
	return true
}

// readSecond looks for another ClientHello, which has to have the same name.
func (p *Pod) readSecond(r flowtab.Ref, w *work, result stream.Result) Outcome {
	f := p.table.Facts(r)
	if result.Grew {
		b := w.toServer.Bytes()
		if w.parsed == 0 {
			w.parsed = w.joiner.End()
			w.joiner = tls.Joiner{}
		}
		t := p.tools()
		if w.parsed >= len(b) {
			return p.unsettled(f)
		}
		message, status := w.joiner.Join(b[w.parsed:], t.joined[:0])
		if status == tls.Complete && t.hello.Parse(message) == tls.Complete {
			first := p.hellos.get(f.hello)
			if first != nil && string(t.hello.SNI) != first.name {
				return p.secondName(r, w)
			}
		} else if status == tls.More && !result.Ended {
			return p.unsettled(f)
		}
	}
	w.phase = closing
	w.toServer.Decide(&p.memory)
	return p.unsettled(f)
}

// secondName refuses a connection whose client has named two servers.
func (p *Pod) secondName(r flowtab.Ref, w *work) Outcome {
	f := p.table.Facts(r)
	p.tellConflict(r, f)
	f.failure = conflict
	p.flow.AppError = conflict.String()
	p.remember(f, compile.Decision{Verdict: compile.Dropped}, w.mark, w.markMask)
	p.finish(r, w)
	return Outcome{Action: Drop, Flow: uint64(p.table.Facts(r).id), By: byConflict}
}
