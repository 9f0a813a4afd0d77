// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"net/netip"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/ext"
)

// Variable is a name that rules can use.
type Variable struct {
	Name string
	// Reads says when the variable is known.
	Reads Stage
	// Text is what the variable tells, for the reference of the rules.
	Text string

	number int // its place among all
	// One of these is set, and is the variable's type.
	str   func(*Flow) string
	num   func(*Flow) int64
	flag  func(*Flow) bool
	ip    func(*Flow) netip.Addr
	list  func(*Flow) []string
	words func(*Pod) map[string]string
}

// Variables returns all names that rules can use, besides sets and variables of their
// own.
func Variables() []Variable {
	all := podVariables()
	all = append(all, flowVariables()...)
	all = append(all, appVariables()...)
	all = append(all, messageVariables()...)
	for i := range all {
		all[i].number = i
	}
	return all
}

// Type returns the type of the variable as the reference of the rules has it.
func (v *Variable) Type() string { return v.celType().String() }

func (v *Variable) celType() *cel.Type {
	switch {
	case v.str != nil:
		return cel.StringType
	case v.num != nil:
		return cel.IntType
	case v.flag != nil:
		return cel.BoolType
	case v.ip != nil:
		return ext.IPType
	case v.list != nil:
		return cel.ListType(cel.StringType)
	default:
		return cel.MapType(cel.StringType, cel.StringType)
	}
}

func podVariables() []Variable {
	pod := func(name, text string, get func(*Pod) string) Variable {
		return Variable{
			Name: "pod." + name, Reads: OfPod, Text: text,
			str: func(f *Flow) string { return get(f.Pod) },
		}
	}
	return []Variable{
		pod("namespace", "the pod's namespace", func(p *Pod) string { return p.Namespace }),
		pod("name", "the pod's name", func(p *Pod) string { return p.Name }),
		pod("uid", "the pod's UID", func(p *Pod) string { return p.UID }),
		pod("network", "the CNI network", func(p *Pod) string { return p.Network }),
		pod("interface", "the interface in the pod", func(p *Pod) string { return p.Interface }),
		{
			Name: "pod.annotations", Reads: OfPod | OfAuthor,
			Text:  `the pod's annotations that were passed on; an absent one is ""`,
			words: func(p *Pod) map[string]string { return p.Annotations },
		},
		{
			Name: "pod.labels", Reads: OfPod | OfAuthor,
			Text:  `the pod's labels; an absent one is ""`,
			words: func(p *Pod) map[string]string { return p.Labels },
		},
	}
}

func flowVariables() []Variable {
	list := []Variable{
		{
			Name: "flow.direction", Text: "out if the pod is the client, else in",
			str: func(f *Flow) string { return f.Direction },
		},
		{
			Name: "flow.protocol",
			Text: "tcp, udp, icmp, icmpv6, sctp, or the number of another one",
			str:  func(f *Flow) string { return f.Protocol },
		},
		{
			Name: "flow.family", Text: "4 or 6",
			num: func(f *Flow) int64 { return f.Family },
		},
		{
			Name: "flow.midstream", Text: "the flow is older than the inspection",
			flag: func(f *Flow) bool { return f.Midstream },
		},
		{
			Name: "client.ip", Text: "the side that opened the connection",
			ip: func(f *Flow) netip.Addr { return f.ClientIP },
		},
		{
			Name: "server.ip", Text: "the side that accepted it",
			ip: func(f *Flow) netip.Addr { return f.ServerIP },
		},
		{
			Name: "client.port", Text: "0 where the protocol has none",
			num: func(f *Flow) int64 { return f.ClientPort },
		},
		{
			Name: "server.port", Text: "0 where the protocol has none",
			num: func(f *Flow) int64 { return f.ServerPort },
		},
		{
			Name: "icmp.type", Text: "of ICMP and ICMPv6",
			num: func(f *Flow) int64 { return f.ICMPType },
		},
		{
			Name: "icmp.code", Text: "of ICMP and ICMPv6",
			num: func(f *Flow) int64 { return f.ICMPCode },
		},
		{
			Name: "socket.uid", Text: "the user of the pod's socket; -1 if not known",
			num: func(f *Flow) int64 { return f.SocketUID },
		},
		{
			Name: "tcp.mptcp", Text: "the connection asks for Multipath TCP",
			flag: func(f *Flow) bool { return f.MPTCP },
		},
		{
			Name: "tcp.fastOpen", Text: "the connection starts with data",
			flag: func(f *Flow) bool { return f.FastOpen },
		},
		{
			Name: "server.names", Text: "the names that the pod has resolved to server.ip",
			list: func(f *Flow) []string { return f.ServerNames },
		},
	}
	return reading(Packet, list)
}

func appVariables() []Variable {
	return []Variable{
		{
			Name: "app.protocol", Reads: App,
			Text: "tls, quic, http, h2, dns, ssh, unknown or none",
			str:  func(f *Flow) string { return f.AppProtocol },
		},
		{
			Name: "app.error", Reads: Failure,
			Text: "why the payload tells nothing: malformed, limit, timeout, conflict, gap, " +
				"midstream, memory, truncated",
			str: func(f *Flow) string { return f.AppError },
		},
	}
}

func messageVariables() []Variable {
	list := reading(TLS, []Variable{
		{
			Name: "tls.sni", Text: "the name that the client asks for, of TLS and QUIC",
			str: func(f *Flow) string { return f.TLSServerName },
		},
		{
			Name: "tls.alpn", Text: "the protocols that the client offers",
			list: func(f *Flow) []string { return f.TLSALPN },
		},
		{
			Name: "tls.version", Text: "the highest version that the client offers",
			str: func(f *Flow) string { return f.TLSVersion },
		},
		{
			Name: "tls.ja4", Text: "the client's JA4 fingerprint",
			str: func(f *Flow) string { return f.TLSJA4 },
		},
		{
			Name: "tls.ech", Text: "the hello has an encrypted one, or pretends to",
			flag: func(f *Flow) bool { return f.TLSECH },
		},
	})
	list = append(list, reading(DNS, []Variable{
		{
			Name: "dns.name", Text: "the name of the question",
			str: func(f *Flow) string { return f.DNSName },
		},
		{
			Name: "dns.type", Text: "the type of the question, such as AAAA",
			str: func(f *Flow) string { return f.DNSType },
		},
		{
			Name: "dns.response", Text: "the message is an answer",
			flag: func(f *Flow) bool { return f.DNSResponse },
		},
		{
			Name: "dns.rcode", Text: "the code of the answer",
			num: func(f *Flow) int64 { return f.DNSRCode },
		},
	})...)
	return append(list, reading(HTTP, []Variable{
		{
			Name: "http.method", Text: "the method of the request",
			str: func(f *Flow) string { return f.HTTPMethod },
		},
		{
			Name: "http.host", Text: "the host of the request, without port",
			str: func(f *Flow) string { return f.HTTPHost },
		},
		{
			Name: "http.path", Text: "the path as it was sent",
			str: func(f *Flow) string { return f.HTTPPath },
		},
		{
			Name: "http.query", Text: "what follows the question mark",
			str: func(f *Flow) string { return f.HTTPQuery },
		},
		{
			Name: "http.version", Text: "the version of the request",
			str: func(f *Flow) string { return f.HTTPVersion },
		},
		{
			Name: "http.userAgent", Text: "the User-Agent of the request",
			str: func(f *Flow) string { return f.HTTPUserAgent },
		},
	})...)
}

func reading(stage Stage, list []Variable) []Variable {
	for i := range list {
		list[i].Reads = stage
	}
	return list
}
