// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"fmt"
	"testing"
	"time"
	"unsafe"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/compile"
)

// player sends packets whose bytes are made once.
type player struct {
	pod     *Pod
	packets []Packet
	now     time.Duration
}

func newPlayer(list *compile.List, packets ...[]byte) *player {
	pl := &player{pod: New(Config{Rules: list}), now: time.Hour}
	for _, b := range packets {
		p := Packet{Payload: b, Length: len(b), Direction: inspect.In, SocketUID: -1}
		if b[12] == 10 {
			p.Direction = inspect.Out
		}
		pl.packets = append(pl.packets, p)
	}
	return pl
}

func (pl *player) play() (last Outcome) {
	for i := range pl.packets {
		pl.now += 10 * time.Microsecond
		last = pl.pod.Judge(&pl.packets[i], pl.now)
	}
	return last
}

// connection returns the packets of a connection that says something and closes.
func connection(payload []byte) [][]byte {
	client, server := netipPort("10.0.0.1", 40000), netipPort("203.0.113.5", 443)
	n := uint32(len(payload))
	return [][]byte{
		tcp(client, server, syn, 1000, 0, nil, nil),
		tcp(server, client, syn|ack, 5000, 1001, nil, nil),
		tcp(client, server, ack, 1001, 5001, nil, nil),
		tcp(client, server, ack, 1001, 5001, nil, payload),
		tcp(server, client, ack, 5001, 1001+n, nil, []byte("hello")),
		tcp(client, server, ack|fin, 1001+n, 5006, nil, nil),
		tcp(server, client, ack|fin, 5006, 1002+n, nil, nil),
	}
}

// tenRules are rules as a site has them.
const tenRules = `
  default: reject
  sets:
    good: {domains: [www.allowed.example, "*.example.org"]}
    cluster: {cidrs: [10.96.0.0/12]}
    metadata: {cidrs: [169.254.169.254/32]}
  rules:
  - {name: r0, when: sets.metadata.contains(server.ip), action: reject}
  - {name: r1, when: 'app.protocol == "dns" && sets.cluster.contains(server.ip)', action: accept}
  - {name: r2, when: server.port == 22, action: drop}
  - {name: r3, when: 'server.port in [25, 465, 587]', action: drop}
  - {name: r4, when: flow.protocol == "udp" && server.port == 9000, action: accept}
  - {name: r5, when: http.host == "www.allowed.example", action: accept}
  - {name: r6, when: 'tls.sni.endsWith(".internal.example")', action: drop}
  - {name: r7, when: 'tls.alpn.exists(a, a == "h3")', action: drop}
  - {name: r8, when: 'app.protocol in ["tls", "quic"] && sets.good.contains(tls.sni)', action: accept}
  - {name: r9, when: flow.direction == "in" && client.port < 1024, action: drop}`

func TestNoAllocations(t *testing.T) {
	list := rulesOf(t, tenRules)
	client, server := netipPort("10.0.0.1", 4000), netipPort("203.0.113.5", 9000)
	hello := clientHello(t, "www.allowed.example")
	cut := connection(hello[:100])[:4]
	resolver := netipPort("10.96.0.10", 53)
	q := query(1, "www.allowed.example")
	request := connection(get("www.allowed.example"))
	for name, c := range map[string]struct {
		packets [][]byte
		want    Action
	}{
		"decided":            {[][]byte{udp(client, server, []byte("x"))}, Accept},
		"connection":         {connection(hello), Accept},
		"hello in two":       {append(cut, tcp(netipPort("10.0.0.1", 40000), netipPort("203.0.113.5", 443), ack, 1101, 5001, nil, hello[100:])), Accept},
		"refused connection": {connection(clientHello(t, "www.blocked.example")), Reject},
		"query and answer":   {[][]byte{udp(client, resolver, q), udp(resolver, client, response(q, "192.0.2.1"))}, Accept},
		"request":            {request, Accept},
	} {
		t.Run(name, func(t *testing.T) {
			pl := newPlayer(list, c.packets...)
			if o := pl.play(); o.Action != c.want {
				t.Fatalf("%+v", o)
			}
			for range 20 {
				pl.play()
			}
			if n := testing.AllocsPerRun(100, func() { pl.play() }); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

func TestSizes(t *testing.T) {
	if n := unsafe.Sizeof(facts{}); n > 28 {
		t.Errorf("what is remembered of a flow takes %d bytes", n)
	}
	if n := unsafe.Sizeof(work{}); n > 2048 {
		t.Errorf("the work of a flow takes %d bytes", n)
	}
}

// What is charged for undecided connections is little more than what they said.
func TestMemoryOfTheUndecided(t *testing.T) {
	const connections, said = 256, 256
	hello := clientHello(t, "www.allowed.example")[:said]
	b := newBench(t, tenRules)
	for n := range connections {
		b.conn(fmt.Sprintf("10.0.0.1:%d", 40000+n), "203.0.113.5:443").open().say(hello)
	}
	s := b.Stats()
	if each := s.Memory / connections; s.Undecided != connections || each > 2048+said {
		t.Errorf("%d are undecided, %d bytes each", s.Undecided, each)
	}
}

func BenchmarkJudge(b *testing.B) {
	var long string
	for i := range 990 {
		long += fmt.Sprintf("\n  - {name: x%d, when: tls.sni == 'n%d.example' && server.port == 443, action: drop}", i, i)
	}
	client, server := netipPort("10.0.0.1", 4000), netipPort("203.0.113.5", 9000)
	resolver := netipPort("10.96.0.10", 53)
	q := query(1, "www.allowed.example")
	hello := clientHello(b, "www.allowed.example")
	for name, packets := range map[string][][]byte{
		"decided": {udp(client, server, []byte("x"))},
		"two":     {udp(client, server, []byte("x")), udp(netipPort("10.0.0.1", 4001), server, []byte("x"))},
		"TLS":     connection(hello),
		"HTTP":    connection(get("www.allowed.example")),
		"DNS":     {udp(client, resolver, q), udp(resolver, client, response(q, "192.0.2.1"))},
		"QUIC":    initials(b, "quic02_pq_2datagrams.pcap"),
	} {
		for rules, spec := range map[string]string{"10": tenRules, "1000": tenRules + long} {
			b.Run(name+"/"+rules, func(b *testing.B) {
				pl := newPlayer(rulesOf(b, spec), packets...)
				b.ReportAllocs()
				for b.Loop() {
					pl.play()
				}
			})
		}
	}
}
