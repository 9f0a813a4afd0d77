// SPDX-License-Identifier: Apache-2.0

// Package eve writes what rules have decided as lines of EVE JSON, the format of
// Suricata's events, and limits how many there are of a rule and pod. What Suricata has
// no field for is in alert.metadata, and the pod in one key more, kubernetes.
package eve

import (
	"net/netip"
	"time"
)

// Action is what a rule does.
type Action uint8

// The actions that there are events of. A flow goes on after Accept and Log.
const (
	Accept Action = iota
	Drop
	Reject
	Log
)

// String returns the action in the words of rules.
func (a Action) String() string {
	if a > Log {
		return "unknown"
	}
	return [...]string{"accept", "drop", "reject", "log"}[a]
}

// Target is who was told of a rejection.
type Target uint8

// The targets. Nobody leaves the field out.
const (
	Nobody Target = iota
	ToClient
	ToServer
	Both
)

// Pod is whose flow it is.
type Pod struct{ Namespace, Name, UID string }

// TLS is what a ClientHello has told, of TLS or QUIC.
type TLS struct {
	// Version is that of TLS, as in 1.3.
	SNI, Version, JA4 string
	ALPN              []string
	ECH               bool
}

// DNS is one question of a message.
type DNS struct {
	Name, Type string
	Response   bool
	RCode      int // of a response
}

// HTTP is what the head of a request has told. The version is as in 1.1.
type HTTP struct{ Method, Host, Path, Query, Version, UserAgent string }

// Event is a decision about a flow. Texts may have any bytes: they are escaped and cut.
type Event struct {
	Time time.Time
	// FlowID is 0 if not known. Of a greater one than JSON's readers can keep, the lower
	// 53 bits are written.
	FlowID uint64
	// Client has opened the flow. Ports are those of TCP, UDP and SCTP.
	Client, Server netip.AddrPort
	// Protocol is the number of IP's protocol.
	Protocol uint8
	// ICMPType and ICMPCode are those of an ICMP flow's first packet.
	ICMPType, ICMPCode uint8
	// ToServer is the direction of the packet at which it was decided.
	ToServer bool
	Pod      Pod

	// Set and Rule are what has decided. A Rule may be named default or midstream.
	Set, Rule string
	Action    Action
	// Audit says that the action was only told of, and not taken.
	Audit bool
	// Target is who was told, if the action is Reject.
	Target Target
	// Severity is critical, high, medium, low or empty.
	Severity string
	Message  string

	// AppProtocol and AppError are the values of app.protocol and app.error.
	AppProtocol, AppError string
	Midstream             bool
	// TLS counts if the protocol is tls or quic, DNS if it is dns, HTTP if it is http or
	// h2.
	TLS         TLS
	QUICVersion string
	DNS         DNS
	HTTP        HTTP

	// Suppressed is how many events of the same pod and rule were left out before this
	// one.
	Suppressed uint64
}

// refused reports whether the flow ends here.
func (e *Event) refused() bool { return !e.Audit && (e.Action == Drop || e.Action == Reject) }
