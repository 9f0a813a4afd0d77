// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"time"

	"github.com/nsqueue/nsqueue/daemon/rules/internal/flowtab"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/proto/quic"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/proto/tls"
)

const (
	quicPatience  = 50 * time.Millisecond // for the rest of a hello
	quicDatagrams = 4                     // in which a hello must be complete
	quicMemory    = 5 * time.Second       // of a hello that is sent again
	maxDecided    = 64                    // flows whose hello is kept so
)

// timer is a flow of QUIC that something ends for.
type timer struct {
	key flowtab.Key
	id  uint32
	end time.Duration
}

// isInitial reports whether a datagram may begin another connection.
func isInitial(b []byte) bool { return quic.Recognise(b) == quic.Yes }

// firstInitial begins with a flow of QUIC.
func (p *Pod) firstInitial(fresh facts, b []byte, cut bool) Outcome {
	f := &p.frame
	r, w := p.add(f.side, fresh)
	if w == nil {
		return Outcome{}
	}
	facts := p.table.Facts(r)
	facts.flags |= knowsApp
	p.fill(&f.key, f.side, facts)
	if p.decide(facts, w) {
		p.finish(r, w)
		return p.answer(p.table.Facts(r))
	}
	made := p.newQUIC(w)
	for !made && p.table.Shed(r) {
		made = p.newQUIC(w)
	}
	if !made {
		return p.endQUIC(r, w, memory)
	}
	w.began = f.now
	p.undone = append(p.undone, timer{f.key, facts.id, f.now + quicPatience})
	return p.quic(r, w, b, cut, true)
}

func (p *Pod) endQUIC(r flowtab.Ref, w *work, why failure) Outcome {
	p.fill(p.table.Key(r), p.table.Client(r), p.table.Facts(r))
	p.end(r, w, why)
	return p.answer(p.table.Facts(r))
}

// quic reads a datagram of a flow whose hello is not complete, or is kept.
func (p *Pod) quic(r flowtab.Ref, w *work, b []byte, cut, fromClient bool) Outcome {
	f := p.table.Facts(r)
	status := w.quic.Feed(b, fromClient)
	isDecided := f.has(decided)
	switch {
	case !fromClient && isDecided:
		return p.remembered(r)
	case !fromClient:
		return p.undecided(r, f, w, false)
	case status == quic.Complete:
		return p.completeQUIC(r, w)
	case status == quic.Conflict:
		p.tellConflict(r, f)
		return Outcome{Action: Drop, Flow: uint64(f.id), By: byConflict}
	case isDecided && status == quic.Limit:
		p.finish(r, w)
		return p.anotherHello(r, b)
	case isDecided:
		return p.remembered(r)
	case cut:
		return p.endQUIC(r, w, truncated)
	case status == quic.Malformed:
		return p.endQUIC(r, w, malformed)
	}
	w.datagrams++
	if status == quic.Limit || w.datagrams >= quicDatagrams || p.frame.now-w.began >= quicPatience {
		return p.endQUIC(r, w, limit)
	}
	return p.undecided(r, f, w, true)
}

// completeQUIC decides a flow by its hello, which may be another one than before.
func (p *Pod) completeQUIC(r flowtab.Ref, w *work) Outcome {
	f, h := p.table.Facts(r), &p.tools().hello
	p.fill(p.table.Key(r), p.table.Client(r), f)
	isDecided, before := f.has(decided), f.hello
	if h.Parse(w.quic.Hello()) != tls.Complete {
		p.fail(f, malformed)
	} else {
		p.learnHello(f, h, tls.QUIC)
	}
	if isDecided && before != 0 && before == f.hello {
		return p.remembered(r)
	}
	if isDecided {
		w.progress.Reset()
		f.flags &^= again
		f.id = p.nextID()
	}
	p.decide(f, w)
	if f.has(refused) {
		p.finish(r, w)
		return p.answer(p.table.Facts(r))
	}
	p.keepQUIC(r, w)
	return p.answer(f)
}

// keepQUIC keeps the state of a flow that is decided: parts of its hello may be sent again.
func (p *Pod) keepQUIC(r flowtab.Ref, w *work) {
	p.table.Watch(r)
	if w.phase == closing {
		return
	}
	w.phase = closing
	if len(p.done) == maxDecided {
		p.endTimer(&p.done[0])
		p.done = p.done[:copy(p.done, p.done[1:])]
	}
	p.done = append(p.done, timer{*p.table.Key(r), p.table.Facts(r).id, p.frame.now + quicMemory})
}

// anotherHello looks whether a datagram of a decided flow begins another connection.
func (p *Pod) anotherHello(r flowtab.Ref, b []byte) Outcome {
	w := p.newWork()
	if w == nil || !p.newQUIC(w) {
		if w != nil {
			p.freeWork(w)
		}
		return p.remembered(r)
	}
	status := w.quic.Feed(b, true)
	if status != quic.NeedMore && status != quic.Complete {
		p.freeWork(w)
		return p.remembered(r)
	}
	f := *p.table.Facts(r)
	p.hellos.hold(f.hello)
	p.names.hold(f.names)
	client := p.table.Client(r)
	r, ok := p.table.Add(&p.frame.key, client, p.frame.now)
	if !ok {
		p.freeWork(w)
		p.release(&f)
		return Outcome{}
	}
	*p.table.State(r), *p.table.Facts(r) = w, f
	if status == quic.Complete {
		return p.completeQUIC(r, w)
	}
	p.keepQUIC(r, w)
	return p.remembered(r)
}

// expireQUIC ends what waits for the rest of a hello, and what keeps one.
func (p *Pod) expireQUIC(now time.Duration) {
	for _, list := range []*[]timer{&p.undone, &p.done} {
		n := 0
		for n < len(*list) && (*list)[n].end <= now {
			p.endTimer(&(*list)[n])
			n++
		}
		*list = (*list)[:copy(*list, (*list)[n:])]
	}
}

func (p *Pod) endTimer(t *timer) {
	r := p.table.Find(&t.key, p.frame.now)
	if r == 0 || p.table.Facts(r).id != t.id {
		return
	}
	switch w := p.state(r); {
	case w == nil || w.quic == nil:
	case p.table.Facts(r).has(decided):
		p.finish(r, w)
	case p.frame.now-w.began >= quicPatience:
		p.endQUIC(r, w, limit)
	}
}
