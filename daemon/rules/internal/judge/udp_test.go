// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// initials returns the datagrams of a capture with the hello of a client of QUIC.
func initials(tb testing.TB, name string) (packets [][]byte) {
	for _, packet := range readCapture(tb, name) {
		if packet[20+8]&0x80 != 0 && packet[12] == 10 {
			packets = append(packets, packet)
		}
	}
	return packets
}

func TestHelloInDatagrams(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		two := initials(t, "quic02_pq_2datagrams.pcap")
		b.want("first", b.send(two[0]), "pass")
		b.want("second", b.send(two[1]), "reject!")
	})
	both(t, func(t *testing.T, b *bench) {
		two := initials(t, "quic02_pq_2datagrams.pcap")
		b.want("second first", b.send(two[1]), "pass")
		b.want("then the first", b.send(two[0]), "reject!")
	})
}

// Nobody tells how long the datagrams are: they tell themselves.
func TestMergedDatagrams(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		two := initials(t, "quic02_pq_2datagrams.pcap")
		client, server := netipPort("10.0.0.1", 4000), netipPort("203.0.113.5", 443)
		packet := udp(client, server, slices.Concat(two[0][28:], two[1][28:]))
		p := &Packet{Payload: packet, Length: len(packet), Direction: 2, Merged: true, SocketUID: -1}
		b.want("hello", b.Judge(p, b.now), "reject!")
		good, bad := query(1, "www.allowed.example"), query(2, "www.blocked.example")
		packet = udp(client, netipPort("10.96.0.10", 53), slices.Concat(good, bad))
		p = &Packet{Payload: packet, Length: len(packet), Direction: 2, Merged: true, SocketUID: -1}
		b.want("queries", b.Judge(p, b.now), "reject")
	})
}

func TestHelloNeverComplete(t *testing.T) {
	half := func(t *testing.T) []byte { return initials(t, "quic02_pq_2datagrams.pcap")[0] }
	for name, test := range map[string]func(t *testing.T, b *bench){
		"later datagram": func(t *testing.T, b *bench) {
			b.want("half", b.send(half(t)), "pass")
			b.now += quicPatience
			b.want("again", b.send(half(t)), "reject!")
		},
		"time": func(t *testing.T, b *bench) {
			b.want("half", b.send(half(t)), "pass")
			b.now += quicPatience
			b.Tick(b.now)
			b.told("reject s/default quic limit")
			answer := slices.Clone(half(t))
			copy(answer[12:], half(t)[16:20])
			copy(answer[16:], half(t)[12:16])
			copy(answer[20:], half(t)[22:24])
			copy(answer[22:], half(t)[20:22])
			b.want("answer", b.send(answer), "reject!")
		},
		"datagrams": func(t *testing.T, b *bench) {
			for range quicDatagrams - 1 {
				b.want("half", b.send(half(t)), "pass")
			}
			b.want("the fourth", b.send(half(t)), "reject!")
		},
	} {
		t.Run(name, func(t *testing.T) { test(t, newBench(t, allowList)) })
	}
}

func TestAnotherHello(t *testing.T) {
	b := newBench(t, "\n  rules: [{name: q, when: tls.sni == 'www.blocked.example', action: drop}]")
	client, server := netipPort("10.0.0.1", 4000), netipPort("203.0.113.5", 443)
	short := udp(client, server, []byte{0x40, 1, 2, 3, 4, 5, 6, 7})
	b.want("no hello", b.send(short), "accept!")
	two := initials(t, "quic02_pq_2datagrams.pcap")
	one := initials(t, "quic01_plain.pcap")[0]
	b.want("half", b.send(udp(client, server, two[0][28:])), "accept!")
	b.want("short header meanwhile", b.send(short), "accept!")
	b.want("other half", b.send(udp(client, server, two[1][28:])), "drop!")
	b.want("short header", b.send(short), "drop!")
	b.want("another", b.send(udp(client, server, one[28:])), "drop!")
}

func TestHelloSentAgain(t *testing.T) {
	b := newBench(t, "\n  default: drop\n  rules: [{name: q, when: tls.sni == 'www.blocked.example', action: accept}]")
	two := initials(t, "quic02_pq_2datagrams.pcap")
	b.send(two[0])
	b.want("hello", b.send(two[1]), "accept!")
	b.told("accept s/q quic www.blocked.example")
	for range 6 {
		b.now += 200 * time.Millisecond
		b.Tick(b.now)
		b.want("a half again", b.send(two[1]), "accept!")
	}
	b.now += time.Minute
	b.Tick(b.now)
	b.want("much later", b.send(two[0]), "accept!")
	b.now += time.Minute
	b.Tick(b.now)
	b.want("later still", b.send(two[1]), "accept!")
	b.told("")
}

func TestOtherDatagrams(t *testing.T) {
	b := newBench(t, "\n  default: reject\n  rules: [{name: u, when: app.protocol == 'unknown' && client.port > 1024 && flow.direction == 'out', action: accept}]")
	client, server := netipPort("10.0.0.1", 4000), netipPort("203.0.113.5", 51820)
	b.want("first", b.send(udp(client, server, []byte("x"))), "accept!")
	b.want("answer", b.send(udp(server, client, []byte("x"))), "accept!")
	b.want("inbound", b.send(udp(netipPort("203.0.113.5", 53), netipPort("10.0.0.1", 5000), []byte("x"))), "reject")
	b.want("length", b.send(udp(client, server, []byte("x"))[:20]), "none")
}

func TestWithoutBytes(t *testing.T) {
	b := newBench(t, "\n  rules: [{name: u, when: server.port == 443, action: drop}]")
	b.want("hello", b.send(initials(t, "quic01_plain.pcap")[0]), "drop!")
}

func TestICMP(t *testing.T) {
	b := newBench(t, `
  default: reject
  rules:
  - {name: ping, when: flow.protocol == "icmp" && icmp.type == 8 && flow.direction == "out", action: accept}
  - {name: web, when: server.port == 80, action: accept}`)
	pod, peer, router := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("203.0.113.5"), netip.MustParseAddr("192.0.2.1")
	b.want("echo", b.send(icmp(pod, peer, 8, 0, []byte{0, 1, 0, 1})), "accept")
	b.want("reply", b.send(icmp(peer, pod, 0, 0, []byte{0, 1, 0, 1})), "accept")
	b.want("reply to nothing", b.send(icmp(peer, pod, 0, 0, []byte{0, 2, 0, 1})), "reject")
	b.want("echo from outside", b.send(icmp(peer, pod, 8, 0, []byte{0, 3, 0, 1})), "reject")
	b.want("redirect", b.send(icmp(router, pod, 5, 0, make([]byte, 32))), "reject")

	accepted := tcp(netipPort("10.0.0.1", 4000), netipPort("203.0.113.5", 80), syn, 1, 0, nil, nil)
	other := tcp(netipPort("10.0.0.1", 4000), netipPort("203.0.113.5", 81), syn, 1, 0, nil, nil)
	b.want("SYN", b.send(accepted), "accept!")
	b.want("other SYN", b.send(other), "reject!")
	unreachable := func(inner []byte) []byte {
		return icmp(router, pod, 3, 1, append(make([]byte, 4), inner[:28]...))
	}
	b.want("error of an accepted flow", b.send(unreachable(accepted)), "accept")
	b.want("error of a refused flow", b.send(unreachable(other)), "reject")
	other[23] = 9
	b.want("error of no flow", b.send(unreachable(other)), "reject")
}

func TestOtherProtocols(t *testing.T) {
	b := newBench(t, `
  default: drop
  rules:
  - {name: sctp, when: flow.protocol == "sctp" && server.port == 5000, action: accept}
  - {name: gre, when: flow.protocol == "47", action: accept}`)
	pod, peer := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("203.0.113.5")
	ports := binary.BigEndian.AppendUint16([]byte{0x10, 0}, 5000)
	b.want("SCTP", b.send(ip(pod, peer, 132, append(ports, make([]byte, 20)...))), "accept!")
	b.want("GRE", b.send(ip(pod, peer, 47, make([]byte, 20))), "accept!")
	b.want("IP in IP", b.send(ip(pod, peer, 4, ip(pod, peer, 47, make([]byte, 20)))), "drop!")
	b.want("ESP", b.send(ip(pod, peer, 50, make([]byte, 20))), "drop!")
	b.want("no IP", b.send([]byte{1, 2, 3}), "none")
	b.want("nothing", b.send(nil), "none")
}
