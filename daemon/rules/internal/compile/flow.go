// SPDX-License-Identifier: Apache-2.0

package compile

import "net/netip"

// Tri is the answer of a rule: no, yes, or not known yet.
type Tri uint8

// False, True and Unknown are all that a Tri can be.
const (
	False Tri = iota
	True
	Unknown
)

func tri(b bool) Tri {
	if b {
		return True
	}
	return False
}

// Stage is a set of facts about a flow, by when they become known.
type Stage uint16

const (
	// Packet has what the first packet of a flow tells: addresses, ports, names.
	Packet Stage = 1 << iota
	// App is the protocol, which the first bytes of payload tell.
	App
	// TLS has what a ClientHello tells.
	TLS
	// DNS has what one question of a DNS message tells.
	DNS
	// HTTP has what the head of one HTTP request tells.
	HTTP
	// Failure is why looking at the payload ended early, or that it did not.
	Failure
	// OfPod says that a rule reads facts of the pod, which are known at attach.
	OfPod
	// OfAuthor says that a rule reads annotations or labels: its pod's author wrote them.
	OfAuthor

	// Message has all that comes with a message of the flow.
	Message = TLS | DNS | HTTP | Failure
	// Everything is what is known of a flow that is looked at no more.
	Everything = Packet | App | Message
)

// Pod is what rules can ask about the pod of a flow.
type Pod struct {
	Namespace, Name, UID, Network, Interface string
	Annotations, Labels                      map[string]string
}

// Flow is what is known of a flow. Fields whose stage is not in Known have no meaning.
// What is known and absent is the zero value of its type. One goroutine at a time uses
// a Flow.
type Flow struct {
	Known Stage
	Pod   *Pod // never nil

	// Direction is out if the pod is the client, else in.
	Direction string
	// Protocol is tcp, udp, icmp, icmpv6, sctp, or the number of another one.
	Protocol               string
	Family                 int64 // 4 or 6
	Midstream              bool
	ClientIP, ServerIP     netip.Addr
	ClientPort, ServerPort int64
	ICMPType, ICMPCode     int64
	SocketUID              int64 // −1 if not known
	MPTCP, FastOpen        bool
	ServerNames            []string

	AppProtocol, AppError string

	TLSServerName, TLSVersion, TLSJA4 string
	TLSALPN                           []string
	TLSECH                            bool

	DNSName, DNSType string
	DNSResponse      bool
	DNSRCode         int64

	HTTPMethod, HTTPHost, HTTPPath, HTTPQuery, HTTPVersion, HTTPUserAgent string

	// Slots hold what exists and all look at.
	stringSlots [maxNesting]string
	intSlots    [maxNesting]int64
}

// KnowApp notes the protocol of a flow, and with it what such a flow never has: a flow
// of TLS has no question of DNS.
func (f *Flow) KnowApp(protocol string) {
	f.AppProtocol = protocol
	f.Known |= App | TLS | DNS | HTTP | Failure
	switch protocol {
	case "tls", "quic":
		f.Known &^= TLS | Failure
	case "dns":
		f.Known &^= DNS | Failure
	case "http":
		f.Known &^= HTTP | Failure
	}
}
