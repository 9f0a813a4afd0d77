// SPDX-License-Identifier: Apache-2.0

package trial

import (
	"net/netip"
	"strings"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules"
)

// recorder writes down what happens to the flows of a pod.
type recorder struct {
	pod    string
	trial  *rules.Trial
	number int // of the packet that is being judged
	flows  map[uint64]*Flow
	known  map[uint64]bool // flows with a packet
}

// Note writes down a note. The texts of its flow are valid during the call alone.
func (r *recorder) Note(_ *inspect.Attachment, _ *rules.Pod, n *rules.Note) {
	f := r.flow(n)
	if app := n.Flow.AppProtocol; app != "" {
		f.App = strings.Clone(app)
	}
	switch {
	case n.Kind == rules.Effect:
		f.addEffect(n)
	case n.Kind == rules.Conflict:
		f.Answer = Answer{Name: f.Name, Verdict: "drop", Rule: byConflict, Packet: r.number}
		f.Error = byConflict
	case n.Kind == rules.Subflow:
		f.Answer = Answer{Verdict: "reject", Rule: bySubflow, Packet: r.number}
	case n.OfMessage:
		f.addMessage(n, r.answer(n))
	case len(f.Messages) == 0 && f.Rule != byConflict:
		f.Answer = r.answer(n)
	}
}

// flow returns the flow of a note.
func (r *recorder) flow(n *rules.Note) *Flow {
	if f := r.flows[n.ID]; f != nil {
		return f
	}
	f := &Flow{
		Pod:      r.pod,
		Client:   endpoint(n.Flow.ClientIP, n.Flow.ClientPort),
		Server:   endpoint(n.Flow.ServerIP, n.Flow.ServerPort),
		Protocol: strings.Clone(n.Flow.Protocol),
		Answer:   Answer{Verdict: undecided, Rule: byDefault},
	}
	r.flows[n.ID] = f
	return f
}

func (r *recorder) answer(n *rules.Note) Answer {
	a := Answer{
		Name: strings.Clone(nameOf(n.Flow)), Verdict: n.Verdict.String(), Packet: r.number,
		Error: strings.Clone(n.Flow.AppError),
	}
	if n.Packet == nil {
		a.Packet = 0
	}
	a.RuleSet, a.Rule = RuleOf(n.Set, n.Rule, n.Midstream)
	return a
}

// addMessage adds what was decided of a message.
func (f *Flow) addMessage(n *rules.Note, a Answer) {
	f.Messages = append(f.Messages, Message{
		Answer: a, Type: strings.Clone(n.Flow.DNSType),
		Method: strings.Clone(n.Flow.HTTPMethod), Path: strings.Clone(n.Flow.HTTPPath),
		Response: n.Flow.DNSResponse,
	})
	if f.Rule != byConflict &&
		(len(f.Messages) == 1 || strictness(a.Verdict) > strictness(f.Verdict)) {
		f.Answer = a
	}
}

func (f *Flow) addEffect(n *rules.Note) {
	e := Effect{Action: n.Action.String(), Audit: n.Audit}
	e.RuleSet, e.Rule = RuleOf(n.Set, n.Rule, n.Midstream)
	f.Effects = append(f.Effects, e)
}

// endpoint prints an address, with its port where the protocol has ports.
func endpoint(addr netip.Addr, port int64) string {
	if port == 0 {
		return addr.String()
	}
	return netip.AddrPortFrom(addr, uint16(port)).String()
}
