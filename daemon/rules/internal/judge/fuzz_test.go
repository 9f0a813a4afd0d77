// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"net/netip"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/compile"
)

// script reads decisions from bytes.
type script []byte

func (s *script) next(n int) int {
	if len(*s) == 0 {
		return 0
	}
	b := (*s)[0]
	*s = (*s)[1:]
	return int(b) % n
}

func (s *script) bytes(n int) []byte {
	n = min(n, len(*s))
	b := (*s)[:n]
	*s = (*s)[n:]
	return b
}

// FuzzJudge plays a script of packets, of which some fit together. Nothing panics, what
// was refused for good stays refused, and all memory comes back. The answers are those of
// a pod that looks at each packet.
func FuzzJudge(f *testing.F) {
	hello := clientHello(f, "www.blocked.example")
	payloads := [][]byte{
		hello, clientHello(f, "www.allowed.example"), get("www.blocked.example"), get("www.allowed.example"),
		overTCP(query(1, "www.blocked.example")), []byte("SSH-2.0-x\r\n"), hello[:60], hello[60:],
		[]byte("POST / HTTP/1.1\r\nHost: www.allowed.example\r\nContent-Length: 9\r\n\r\n123"),
		query(1, "www.blocked.example"), response(query(1, "www.allowed.example"), "192.0.2.1"),
		initials(f, "quic02_pq_2datagrams.pcap")[0][28:], initials(f, "quic02_pq_2datagrams.pcap")[1][28:],
		initials(f, "quic01_plain.pcap")[0][28:],
		{},
	}
	var lists []*compile.List
	for _, spec := range []string{denyList, allowList, tenRules, "\n  undecided: Hold\n  midstream: judge" + allowList, "\n  default: drop"} {
		lists = append(lists, rulesOf(f, spec))
	}
	f.Add([]byte{1, 0, 0, 2, 0, 0, 0, 1, 1, 18, 0, 0, 0, 0, 0, 16, 1, 0, 0, 0, 0, 16, 1, 1, 0})
	f.Add([]byte{2, 1, 1, 11, 1, 1, 12, 1, 0, 9, 3, 10, 1, 1, 1, 13})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4096 {
			return
		}
		s := script(data)
		c := Config{Rules: lists[s.next(len(lists))], Flows: 8, Memory: 128 << 10, Observer: &notes{}}
		p := New(c)
		c.Observer = nil
		attentive := New(c)
		now := time.Hour
		seqs := [2]uint32{1000, 5000}
		pod, peer := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("203.0.113.5")
		for len(s) > 0 {
			ends := [2]netip.AddrPort{
				netip.AddrPortFrom(pod, 40000+uint16(s.next(3))),
				netip.AddrPortFrom(peer, [...]uint16{443, 80, 53, 9000}[s.next(4)]),
			}
			from := s.next(2)
			packet := Packet{Direction: inspect.Out, SocketUID: -1, Unverified: true}
			if from == 1 {
				packet.Direction = inspect.In
			}
			payload := payloads[s.next(len(payloads))]
			switch s.next(8) {
			case 0, 1, 2, 3:
				flags := [...]uint8{ack, syn, syn | ack, fin | ack, rst, ack | urg, syn | fin, ack}[s.next(8)]
				at := seqs[from] + uint32(s.next(5)) - 2
				packet.Payload = tcp(ends[from], ends[1-from], flags, at, seqs[1-from], nil, payload)
				if s.next(4) != 0 {
					seqs[from] = at + uint32(len(payload)) + uint32(flags&syn)>>1
				}
			case 4, 5:
				packet.Payload = udp(ends[from], ends[1-from], payload)
			case 6:
				packet.Payload = icmp(ends[from].Addr(), ends[1-from].Addr(), byte(s.next(20)), 0, s.bytes(60))
			case 7:
				switch s.next(4) {
				case 0:
					now += 20 * time.Second
					p.Tick(now)
					attentive.Tick(now)
				case 1:
					list := lists[s.next(len(lists))]
					p.SetRules(list)
					attentive.SetRules(list)
				default:
					packet.Payload = s.bytes(80)
				}
			}
			packet.Length = len(packet.Payload)
			packet.Merged = s.next(8) == 1
			if s.next(8) == 0 {
				packet.Payload = packet.Payload[:len(packet.Payload)*s.next(16)/16]
			}
			now += time.Duration(s.next(100)) * time.Millisecond
			attentive.forgetRepeats()
			want := attentive.Judge(&packet, now)
			if o := p.Judge(&packet, now); o != want {
				t.Fatalf("%+v, want %+v: %x", o, want, packet.Payload)
			}
			if used := p.account.Used(); used > 128<<10 {
				t.Fatalf("%d bytes are taken", used)
			}
		}
		p.Close()
		if used := p.account.Used(); used != 0 {
			t.Errorf("%d bytes are still taken", used)
		}
	})
}
