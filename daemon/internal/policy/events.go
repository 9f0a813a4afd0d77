// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"context"
	"errors"
	"hash/fnv"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/eve"
	"github.com/nsqueue/nsqueue/daemon/internal/evesink"
	"github.com/nsqueue/nsqueue/daemon/rules"
)

// Events says where events go. Any number of the three may be given.
type Events struct {
	File, Socket string
	Stderr       bool
}

// limitedKeys is how many rules of pods have a limit of their own.
const limitedKeys = 20000

// events writes what rules refuse, log, or would refuse.
type events struct {
	sinks    []*evesink.Sink
	limiter  *eve.Limiter
	refusals refusals
	lines    sync.Pool // of *[]byte
}

func newEvents(c *Events, log *slog.Logger) (*events, error) {
	e := &events{limiter: eve.NewLimiter(limitedKeys), refusals: newRefusals()}
	e.lines.New = func() any { return new([]byte) }
	outputs := []evesink.Config{}
	if c.File != "" {
		outputs = append(outputs, evesink.Config{File: c.File, Log: log})
	}
	if c.Socket != "" {
		outputs = append(outputs, evesink.Config{Socket: c.Socket, Log: log})
	}
	if c.Stderr {
		outputs = append(outputs, evesink.Config{Stream: os.Stderr, Log: log})
	}
	for _, output := range outputs {
		s, err := evesink.New(output)
		if err != nil {
			return nil, errors.Join(err, e.close(context.Background()))
		}
		e.sinks = append(e.sinks, s)
	}
	return e, nil
}

func (e *events) close(ctx context.Context) error {
	var errs []error
	for _, s := range e.sinks {
		errs = append(errs, s.Close(ctx))
	}
	return errors.Join(errs...)
}

func (e *events) reopen() {
	for _, s := range e.sinks {
		s.Reopen()
	}
}

// dropped returns how many lines and refusals had no room.
func (e *events) dropped() uint64 {
	n := e.refusals.dropped.Load()
	for _, s := range e.sinks {
		n += s.Stats().Dropped
	}
	return n
}

// note passes on an event, unless there are too many of the same pod and rule.
func (e *events) note(a *inspect.Attachment, pod *rules.Pod, n *rules.Note, now time.Duration) {
	if !worthAnEvent(n) || len(e.sinks) == 0 && !isRefusal(n) {
		return
	}
	set, rule := ruleOf(n)
	key := eve.Key{Pod: a.ContainerID, Rule: eve.SignatureID(set, rule)}
	suppressed, ok := e.limiter.Allow(key, now)
	if !ok {
		return
	}
	if isRefusal(n) {
		e.refusals.add(a, n, set+"/"+rule, suppressed)
	}
	if len(e.sinks) == 0 {
		return
	}
	event := eventOf(a, pod, n)
	event.Set, event.Rule, event.Suppressed = set, rule, suppressed
	line := e.lines.Get().(*[]byte)
	*line = eve.Append((*line)[:0], &event)
	for _, s := range e.sinks {
		s.Add(*line)
	}
	e.lines.Put(line)
}

// worthAnEvent reports whether something was refused, would have been, or is to be logged.
func worthAnEvent(n *rules.Note) bool {
	switch n.Kind {
	case rules.Decided:
		return n.Verdict == rules.Rejected || n.Verdict == rules.Dropped
	case rules.Effect:
		return n.Audit || n.Action == rules.LogIt
	}
	return true
}

// ruleOf returns the names of what decided. Nothing of the rules decides about conflicts
// and further ways of a connection.
func ruleOf(n *rules.Note) (set, rule string) {
	switch {
	case n.Kind == rules.Conflict:
		return "nsqueue", "conflict"
	case n.Kind == rules.Subflow:
		return "nsqueue", "mptcp-join"
	case n.Set == nil:
		return "nsqueue", "end"
	}
	return rules.NamesOf(n.Set, n.Rule, n.Midstream)
}

func eventOf(a *inspect.Attachment, pod *rules.Pod, n *rules.Note) eve.Event {
	f := n.Flow
	protocol, _ := inspect.ProtocolNumber(f.Protocol)
	e := eve.Event{
		Time: time.Now(), FlowID: flowID(a, n.ID), Protocol: protocol,
		Client:   netip.AddrPortFrom(f.ClientIP, uint16(f.ClientPort)),
		Server:   netip.AddrPortFrom(f.ServerIP, uint16(f.ServerPort)),
		ICMPType: uint8(f.ICMPType), ICMPCode: uint8(f.ICMPCode), ToServer: n.ToServer,
		Pod:    eve.Pod{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Action: actionOf(n), Audit: n.Audit, Midstream: f.Midstream,
		AppProtocol: f.AppProtocol, AppError: f.AppError,
	}
	if e.Action == eve.Reject && !n.Audit {
		e.Target = targetOf(n)
	}
	if n.Rule != nil {
		e.Severity, e.Message = n.Rule.Severity, n.Rule.Message(f)
	}
	describe(&e, f)
	return e
}

// describe adds what the client asked for.
func describe(e *eve.Event, f *rules.Flow) {
	switch f.AppProtocol {
	case "tls", "quic":
		e.TLS = eve.TLS{
			SNI: f.TLSServerName, Version: f.TLSVersion, JA4: f.TLSJA4, ALPN: f.TLSALPN,
			ECH: f.TLSECH,
		}
	case "dns":
		e.DNS = eve.DNS{
			Name: f.DNSName, Type: f.DNSType, Response: f.DNSResponse, RCode: int(f.DNSRCode),
		}
	case "http":
		e.HTTP = eve.HTTP{
			Method: f.HTTPMethod, Host: f.HTTPHost, Path: f.HTTPPath, Query: f.HTTPQuery,
			Version: f.HTTPVersion, UserAgent: f.HTTPUserAgent,
		}
	}
}

func actionOf(n *rules.Note) eve.Action {
	switch n.Kind {
	case rules.Decided:
		if n.Verdict == rules.Rejected {
			return eve.Reject
		}
		return eve.Drop
	case rules.Effect:
		switch {
		case n.Audit && n.Action == rules.RejectIt:
			return eve.Reject
		case n.Audit && n.Action == rules.DropIt:
			return eve.Drop
		case n.Audit && (n.Action == rules.AcceptIt || n.Action == rules.InspectIt):
			return eve.Accept
		}
		return eve.Log
	case rules.Subflow:
		return eve.Reject
	}
	return eve.Drop
}

// targetOf says whom the daemon tells of a rejection: of a connection's start the client
// alone, and of what does not come from a packet nobody.
func targetOf(n *rules.Note) eve.Target {
	switch {
	case n.Packet == nil:
		return eve.Nobody
	case n.Flow.Protocol == "tcp" && n.Flow.AppProtocol != "":
		return eve.Both
	case n.ToServer:
		return eve.ToClient
	}
	return eve.ToServer
}

// flowID makes the number of a flow different from those of other pods.
func flowID(a *inspect.Attachment, id uint64) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(a.ContainerID + "/" + a.Ifname))
	return cmp.Or(h.Sum64()<<32|id&0xffffffff, 1)
}

// Note is told by the inspector what happens to a flow, while a packet waits.
func (p *Policy) Note(a *inspect.Attachment, pod *rules.Pod, n *rules.Note) {
	if n.Kind == rules.Decided {
		p.names.note(pod, n)
		p.resolving.note(p.config.Resolvers, n)
	}
	p.events.note(a, pod, n, p.now())
}
