// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"math"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/compile"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/flowtab"
)

// facts are what is remembered of a flow, in 28 bytes without a pointer.
type facts struct {
	id       uint32
	hello    uint32 // number of what the client said
	names    uint32 // number of the names that the pod knew for the server
	user     uint32 // of the pod's socket
	ruling   uint16 // number of what was decided, in the time of these rules
	rules    uint16
	flags    flags
	icmpType uint8
	icmpCode uint8
	app      app
	failure  failure
}

// noUser is who owns no socket, and who is not known.
const noUser = math.MaxUint32

// uid returns the user as rules know it.
func (f *facts) uid() int64 {
	if f.user == noUser {
		return -1
	}
	return int64(f.user)
}

type flags uint16

const (
	outward   flags = 1 << iota // the pod is the client
	midstream                   // the flow is older than what is known of it
	mptcp
	fastOpen
	decided
	knowsApp   // app says what is spoken, which else is not known
	knowsHello // hello and failure say what the client said
	datagrams  // each datagram is decided on its own
	again      // something was decided of the flow before
	refused    // the last decision was not to accept
)

func (f *facts) has(all flags) bool { return f.flags&all == all }

func (f *facts) set(which flags, on bool) {
	f.flags &^= which
	if on {
		f.flags |= which
	}
}

// app is a value of app.protocol.
type app uint8

const (
	appNone app = iota
	appUnknown
	appTLS
	appQUIC
	appHTTP
	appH2
	appDNS
	appSSH
	apps
)

// String returns the word of rules.
func (a app) String() string {
	return [...]string{"none", "unknown", "tls", "quic", "http", "h2", "dns", "ssh"}[a]
}

// Protocols returns the values of app.protocol.
func Protocols() []string {
	list := make([]string, apps)
	for a := range apps {
		list[a] = a.String()
	}
	return list
}

// failure is a value of app.error.
type failure uint8

const (
	noFailure failure = iota
	malformed
	limit
	timeout
	conflict
	gap
	isMidstream
	memory
	truncated
	failures
)

// String returns the word of rules.
func (e failure) String() string {
	return [...]string{
		"", "malformed", "limit", "timeout", "conflict", "gap", "midstream", "memory", "truncated",
	}[e]
}

// fill makes p.flow what is remembered of a flow.
func (p *Pod) fill(key *flowtab.Key, client flowtab.Side, f *facts) {
	c, s := key.End(client), key.End(!client)
	p.flow = compile.Flow{
		Known: compile.Packet, Pod: p.config.Pod,
		Direction: "in", Protocol: p.protocol(key.Protocol()), Family: 6,
		Midstream: f.has(midstream),
		ClientIP:  c.Addr(), ServerIP: s.Addr(),
		ClientPort: int64(c.Port()), ServerPort: int64(s.Port()),
		SocketUID: f.uid(), MPTCP: f.has(mptcp), FastOpen: f.has(fastOpen),
		ServerNames: p.namesOf(f),
	}
	if f.has(outward) {
		p.flow.Direction = "out"
	}
	if c.Addr().Is4() {
		p.flow.Family = 4
	}
	switch key.Protocol() {
	case inspect.ProtoICMP, inspect.ProtoICMPv6:
		p.flow.ClientPort, p.flow.ServerPort = 0, 0
		p.flow.ICMPType, p.flow.ICMPCode = int64(f.icmpType), int64(f.icmpCode)
	}
	p.fillApp(f)
}

// fillApp adds what is remembered of the messages.
func (p *Pod) fillApp(f *facts) {
	if !f.has(knowsApp) {
		return
	}
	p.flow.KnowApp(f.app.String())
	if !f.has(knowsHello) {
		return
	}
	p.flow.Known = compile.Everything
	p.flow.AppError = f.failure.String()
	if h := p.hellos.get(f.hello); h != nil {
		h.tell(&p.flow)
	}
}

// fail makes all known of p.flow, with the reason why there is no more.
func (p *Pod) fail(f *facts, why failure) {
	if !f.has(knowsApp) {
		f.app = appUnknown
		if why == isMidstream || why == noFailure {
			f.app = appNone
		}
	}
	f.flags |= knowsApp | knowsHello
	f.failure = why
	p.flow.KnowApp(f.app.String())
	p.flow.Known = compile.Everything
	p.flow.AppError = why.String()
	p.countFailure(f.app, why)
}

func (p *Pod) countFailure(a app, why failure) {
	if why != noFailure {
		p.failures[a][why]++
	}
}
