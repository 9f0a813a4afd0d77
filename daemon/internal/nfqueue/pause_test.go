// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nfqueue_test

import (
	"sync"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// pauser defers its first packet, and has the others wait in the kernel meanwhile.
type pauser struct {
	mu   sync.Mutex
	held []inspect.Deferred
	by   []inspect.Deferrer
	seen int
}

func (p *pauser) inspect(packet *inspect.Packet) inspect.Verdict {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen++; p.seen > 1 {
		return accepted()
	}
	d, _ := packet.Defer(time.Minute)
	packet.Deferrer.(interface{ Pause() }).Pause()
	p.held, p.by = append(p.held, d), append(p.by, packet.Deferrer)
	return deferred()
}

func (p *pauser) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen
}

// While a queue is paused, its packets wait in the kernel, in order, and none is lost.
func TestPause(t *testing.T) {
	f := newFixture(t)
	q := f.bindDeferring(nfqueue.DefaultLength)
	var p pauser
	r := f.run(q, false, p.inspect)
	f.sendNumbers(1, 1)
	nstest.Eventually(t, reply, "the first packet is inspected", func() bool {
		return p.count() == 1
	})
	f.sendNumbers(2, 60)
	f.silent()
	if n := p.count(); n > 1 {
		t.Errorf("%d packets were read while the queue was paused", n)
	}
	p.held[0].Release(accepted())
	f.receive(1)
	p.by[0].(interface{ Resume() }).Resume()
	for n := range uint32(59) {
		f.receive(2 + n)
	}
	f.answeredOnce(r)
}

// The end of a reader is the end of its pause: what waits gets the policy's verdict.
func TestPauseEnds(t *testing.T) {
	f := newFixture(t)
	q := f.bindDeferring(nfqueue.DefaultLength)
	var p pauser
	r := f.run(q, true, p.inspect)
	f.sendNumbers(1, 1)
	nstest.Eventually(t, reply, "the first packet is inspected", func() bool {
		return p.count() == 1
	})
	f.sendNumbers(2, 20)
	r.End()
	for n := range uint32(20) {
		f.receive(1 + n)
	}
}
