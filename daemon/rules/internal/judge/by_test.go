// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"fmt"
	"math"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/compile"
)

// by checks what decided a packet.
func (b *bench) by(what string, o Outcome, action Action, name string) {
	b.tb.Helper()
	if o.Action != action || o.By != name {
		b.tb.Errorf("%s: %v by %q, want %v by %q", what, o.Action, o.By, action, name)
	}
}

// Each packet of a decided flow has what decided the flow, and no other packet has
// anything.
func TestBy(t *testing.T) {
	b := newBench(t, allowList)
	c := b.web()
	b.by("SYN", c.fromClient(syn, c.cseq, nil), Pass, "")
	c = b.conn("10.0.0.1:40001", "203.0.113.5:443").open()
	hello := clientHello(t, "www.allowed.example")
	b.by("half", c.say(hello[:100]), Pass, "")
	b.by("rest", c.say(hello[100:]), Accept, "s/tls")
	b.by("answer", c.reply([]byte("x")), Accept, "s/tls")
	b.by("RST", c.fromClient(rst, c.cseq, nil), Accept, "")
	c = b.conn("10.0.0.1:40002", "203.0.113.5:443").open()
	b.by("bad hello", c.say(clientHello(t, "www.blocked.example")), Reject, "s/default")
	b.by("what follows", c.say([]byte("x")), Reject, "s/default")
	old := b.conn("10.0.0.1:40003", "203.0.113.5:443")
	b.by("an older connection", old.say([]byte("x")), Accept, "s/midstream")
	client, resolver := netipPort("10.0.0.1", 4000), netipPort("10.96.0.10", 53)
	b.by("query", b.send(udp(client, resolver, query(1, "www.allowed.example"))), Accept, "s/dns")
	b.by("other query", b.send(udp(client, resolver, query(1, "a.example"))), Reject, "s/default")

	b = newBench(t, "\n  rules: [{name: r, when: server.port == 1, action: drop}]")
	c = b.web()
	b.by("the end of all sets", c.fromClient(syn, c.cseq, nil), Accept, "")
	b.SetRules(nil)
	b.by("no rules", c.reply(nil), Accept, "")
}

// What is refused whatever rules say has a name of its own.
func TestByNobody(t *testing.T) {
	b := newBench(t, allowList)
	c := b.web().open()
	good := clientHello(t, "www.allowed.example")
	b.by("hello", c.say(good), Accept, "s/tls")
	other := clientHello(t, "www.blocked.example")
	b.by("other bytes", c.fromClient(ack, c.cseq-uint32(len(good)), other), Drop, "nsqueue/conflict")
	join := []byte{30, 12, 0x10, 0, 0, 0, 0, 1, 0, 0, 0, 2}
	b.by("MP_JOIN", b.conn("10.0.0.1:40001", "203.0.113.5:443").fromClient(syn, 1, nil, join...), Reject, "nsqueue/mptcp-join")
	decoy := tcp(c.server, netipPort("10.0.0.1", 40009), syn, 1, 0, nil, nil)
	decoy[len(decoy)-4]++
	p := &Packet{
		Payload: decoy, Length: len(decoy), Direction: inspect.In, Unverified: true, SocketUID: -1,
	}
	b.by("wrong checksum", b.Judge(p, b.now), Drop, "nsqueue/checksum")

	b = newBench(t, "\n  default: reject\n  rules: [{name: r, when: tls.sni == 'a.example', action: accept, settle: false}]")
	c = b.web().open()
	b.by("hello", c.say(clientHello(t, "a.example")), Accept, "s/r")
	c.reply([]byte("retry"))
	b.by("another name", c.say(clientHello(t, "b.example")), Drop, "nsqueue/conflict")
	b.by("again", c.say([]byte("x")), Drop, "nsqueue/conflict")
}

// Other rules decide in their own name.
func TestByOthers(t *testing.T) {
	const spec = "\n  rules: [{name: %s, when: server.port == 443, action: accept}]"
	b := newBench(t, fmt.Sprintf(spec, "a"))
	c := b.web()
	b.by("SYN", c.fromClient(syn, c.cseq, nil), Accept, "s/a")
	b.SetRules(rulesOf(t, fmt.Sprintf(spec, "b")))
	b.by("others", c.reply(nil), Accept, "s/b")
	b.Renew(rulesOf(t, fmt.Sprintf(spec, "b")))
	b.by("equal ones", c.reply(nil), Accept, "s/b")
}

// Where no room is left to remember a decision, it still counts.
func TestNoRoomForRulings(t *testing.T) {
	b := newBench(t, denyList)
	for i := range uint32(math.MaxUint16) {
		r := ruling{mark: i, mask: math.MaxUint32}
		r.Verdict = compile.Accepted
		b.rulings = append(b.rulings, r.answered())
	}
	c := b.web().open()
	b.by("hello", c.say(clientHello(t, "www.blocked.example")), Reject, "s/tls")
	other := b.conn("10.0.0.1:40001", "203.0.113.5:443").open()
	b.by("another", other.say(clientHello(t, "www.allowed.example")), Accept, "")
	b.by("what follows", c.say([]byte("x")), Reject, "s/tls")
}
