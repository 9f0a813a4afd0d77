// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/judge"
)

// Outcome is what becomes of a packet.
type Outcome = judge.Outcome

// Action is what an [Outcome] does with its packet.
type Action = judge.Action

// The actions.
const (
	None   = judge.None
	Accept = judge.Accept
	Drop   = judge.Drop
	Reject = judge.Reject
	Pass   = judge.Pass
	Hold   = judge.Hold
)

// Trial judges packets of one pod that nobody waits for. One goroutine at a time uses it.
type Trial struct {
	judge  *judge.Pod
	pod    *Pod
	sink   Sink
	packet judge.Packet
}

// Try begins a trial with the rules of a pod. The sink is told what happens.
func (r *Rules) Try(pod *Pod, sink Sink) *Trial {
	t := &Trial{pod: pod, sink: sink}
	t.judge = judge.New(judge.Config{Pod: pod, Rules: r.Of(pod), Observer: t})
	return t
}

// Judge judges a packet that came at a moment, which is never before that of the last one.
func (t *Trial) Judge(p *inspect.Packet, at time.Duration) Outcome {
	fill(&t.packet, p)
	t.judge.Tick(at)
	return t.judge.Judge(&t.packet, at)
}

// End tells of the flows that are not decided, and of what their rules wait for.
func (t *Trial) End() {
	t.judge.Undecided(t.Note)
	t.judge.Close()
}

// Note passes on what happens.
func (t *Trial) Note(n *judge.Note) {
	if t.sink != nil {
		t.sink.Note(nil, t.pod, n)
	}
}
