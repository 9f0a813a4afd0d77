// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"bytes"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/budget"
)

// want fails the test if an outcome is another one. A ! stands for settling.
func (b *bench) want(what string, o Outcome, want string) {
	b.tb.Helper()
	got := o.Action.String()
	if o.Settle {
		got += "!"
	}
	if got != want {
		b.tb.Errorf("%s: %s, want %s", what, got, want)
	}
}

func (b *bench) told(want string) {
	b.tb.Helper()
	if got := b.notes.take(); got != want {
		b.tb.Errorf("told\n  %s, want\n  %s", got, want)
	}
}

// both runs a test of a refused connection under a deny list and under an allow list.
func both(t *testing.T, test func(t *testing.T, b *bench)) {
	for name, spec := range map[string]string{"deny": denyList, "allow": allowList} {
		t.Run(name, func(t *testing.T) { test(t, newBench(t, spec)) })
	}
}

func TestRefusedAtTheSYN(t *testing.T) {
	for action, want := range map[string]string{"drop": "drop!", "reject": "reject!"} {
		b := newBench(t, "\n  rules: [{name: r, when: server.port == 443 && tls.sni != 'x' || server.port == 443, action: "+action+"}]")
		c := b.web()
		b.want("SYN", c.fromClient(syn, 1000, nil), want)
		b.want("SYN again", c.fromClient(syn, 1000, nil), want)
		b.want("RST", c.fromClient(rst, 1001, nil), "accept")
	}
}

func TestNotWaitingForOthers(t *testing.T) {
	b := newBench(t, "\n  default: drop\n  rules: [{name: r, when: server.port == 443 && tls.sni == 'x', action: accept}]")
	b.want("port 22", b.conn("10.0.0.1:4000", "203.0.113.5:22").fromClient(syn, 1, nil), "drop!")
	b.web().open()
}

func TestAccepted(t *testing.T) {
	b := newBench(t, allowList)
	c := b.web().open()
	hello := clientHello(t, "www.Allowed.example")
	b.want("first half", c.say(hello[:20]), "pass")
	b.want("second half", c.say(hello[20:]), "accept")
	b.want("more before it is acknowledged", c.say([]byte("x")), "accept")
	b.want("answer", c.reply([]byte("hello")), "accept!")
	b.want("later", c.say([]byte("bye")), "accept!")
	b.told("accept s/tls tls www.allowed.example")
	if s := b.Stats(); s.Flows != 1 || s.Undecided != 0 {
		t.Errorf("%+v", s)
	}
}

func TestInbound(t *testing.T) {
	b := newBench(t, "\n  default: reject\n  rules: [{name: r, when: flow.direction == 'in' && server.ip == ip('10.0.0.1') && tls.sni == 'a.example', action: accept}]")
	c := b.conn("198.51.100.7:50000", "10.0.0.1:443").open()
	b.want("hello", c.say(clientHello(t, "a.example")), "accept")
	b.want("answer", c.reply([]byte("x")), "accept!")
	b.want("outbound", b.web().fromClient(syn, 1, nil), "reject!")
}

func TestIPv6(t *testing.T) {
	b := newBench(t, denyList)
	c := b.conn("[fd00::1]:40000", "[2001:db8::5]:443").open()
	b.want("hello", c.say(clientHello(t, "www.blocked.example")), "reject!")
}

func TestFirstSegmentOfOneByte(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		c := b.web().open()
		hello := clientHello(t, "www.blocked.example")
		for i := range hello[:len(hello)-1] {
			b.want("byte", c.say(hello[i:i+1]), "pass")
		}
		b.want("last byte", c.say(hello[len(hello)-1:]), "reject!")
		b.want("again", c.fromClient(ack, c.cseq-1, hello[len(hello)-1:]), "reject!")
	})
}

func TestOutOfOrder(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		c := b.web().open()
		hello := clientHello(t, "www.blocked.example")
		b.want("third", c.fromClient(ack, c.cseq+100, hello[100:]), "pass")
		b.want("first", c.fromClient(ack, c.cseq, hello[:50]), "pass")
		b.want("second fills the gap", c.fromClient(ack, c.cseq+50, hello[50:100]), "reject!")
	})
}

// records cuts a hello into records.
func records(hello []byte, size int) (b []byte) {
	for message := hello[5:]; len(message) > 0; {
		n := min(size, len(message))
		b = append(append(b, 22, 3, 1, byte(n>>8), byte(n)), message[:n]...)
		message = message[n:]
	}
	return b
}

func TestRecords(t *testing.T) {
	for _, size := range []int{1, 7, 100} {
		both(t, func(t *testing.T, b *bench) {
			c := b.web().open()
			b.want("hello", c.say(records(clientHello(t, "www.blocked.example"), size)), "reject!")
		})
	}
}

func TestEmptyRecord(t *testing.T) {
	b := newBench(t, allowList)
	b.want("hello", b.web().open().say([]byte{22, 3, 1, 0, 0}), "reject!")
	b.told("reject s/default tls malformed")
}

func TestFastOpen(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		hello := clientHello(t, "www.blocked.example")
		b.want("SYN", b.web().fromClient(syn, 1000, hello, 34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0), "reject!")
	})
	b := newBench(t, allowList)
	c := b.web()
	hello := clientHello(t, "www.allowed.example")
	b.want("SYN with half", c.fromClient(syn, 1000, hello[:100]), "pass")
	c.cseq = 1001 // the server does not take it
	b.want("SYN|ACK", c.fromServer(syn|ack, 5000, nil), "pass")
	c.sseq++
	b.want("hello", c.say(hello), "accept")
	b.want("answer", c.reply([]byte("x")), "accept!")
	d := b.conn("10.0.0.1:40001", "203.0.113.5:443")
	b.want("SYN with hello", d.fromClient(syn, 1000, hello), "accept")
	d.cseq = 1001 + uint32(len(hello))
	b.want("SYN|ACK", d.fromServer(syn|ack, 5000, nil), "accept!")
}

func TestChecksum(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		c := b.conn("198.51.100.7:50000", "10.0.0.1:443").open()
		decoy := tcp(c.client, c.server, ack, c.cseq, c.sseq, nil, clientHello(t, "www.allowed.example"))
		decoy[36] ^= 0x55
		p := &Packet{Payload: decoy, Length: len(decoy), Direction: 1, Unverified: true, SocketUID: -1}
		b.want("decoy", b.Judge(p, b.now), "drop")
		b.want("hello", c.say(clientHello(t, "www.blocked.example")), "reject!")
		if b.Stats().Checksums != 1 {
			t.Error("it is not counted")
		}
	})
}

func TestConflict(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		c := b.web().open()
		good, bad := clientHello(t, "www.allowed.example"), clientHello(t, "www.blocked.example")
		copy(bad[:60], good[:60])
		b.want("out of order", c.fromClient(ack, c.cseq+50, good[50:150]), "pass")
		b.want("other bytes", c.fromClient(ack, c.cseq, bad[:140]), "drop")
		if got := b.notes.take(); got != "conflict drop nsqueue/conflict unknown conflict" && got != "conflict drop nsqueue/conflict conflict" {
			t.Error(got)
		}
		b.want("the same bytes", c.fromClient(ack, c.cseq, good[:50]), "pass")
	})
}

func TestConflictAfterDecision(t *testing.T) {
	b := newBench(t, allowList)
	c := b.web().open()
	good, bad := clientHello(t, "www.allowed.example"), clientHello(t, "www.blocked.example")
	b.want("hello", c.say(good), "accept")
	seq := c.cseq - uint32(len(good))
	b.want("other hello", c.fromClient(ack, seq, bad), "drop")
	b.want("same hello", c.fromClient(ack, seq, good), "accept")
	b.told("accept s/tls tls www.allowed.example; conflict drop nsqueue/conflict tls www.allowed.example conflict")
}

func TestMidstream(t *testing.T) {
	for spec, want := range map[string]string{
		allowList: "accept!", "\n  midstream: judge" + allowList: "reject!",
		"\n  midstream: judge\n  rules: [{name: m, when: app.error == 'midstream' && client.port == 40000, action: drop}]": "drop!",
	} {
		b := newBench(t, spec)
		c := b.web()
		b.want("segment", c.fromClient(ack, 77, []byte("x")), want)
		b.want("answer", c.fromServer(ack, 77, []byte("x")), want)
		c = b.conn("10.0.0.1:40000", "203.0.113.6:443")
		b.want("answer first", c.fromServer(ack, 77, []byte("x")), want)
	}
}

func TestUnknownProtocol(t *testing.T) {
	b := newBench(t, allowList)
	b.want("SSLRequest", b.web().open().say([]byte{0, 0, 0, 8, 4, 210, 22, 47}), "reject!")
	b.want("PROXY", b.conn("10.0.0.1:40001", "203.0.113.5:443").open().say([]byte("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n")), "reject!")
	b.want("SMTP", b.conn("10.0.0.1:40002", "203.0.113.5:25").open().say([]byte("EHLO x\r\n")), "reject!")
	c := b.conn("10.0.0.1:40003", "203.0.113.5:22").open()
	b.want("SSH", c.say([]byte("SSH-2.0-x\r\n")), "reject!")
	b.told("reject s/default unknown; reject s/default unknown; reject s/default unknown; reject s/default ssh")
}

func TestSamePortsAgain(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		c := b.web().open()
		b.want("hello", c.say(clientHello(t, "www.allowed.example")), "accept")
		b.want("answer", c.reply([]byte("x")), "accept!")
		before := *c
		c.cseq, c.sseq = 900000, 800000
		b.want("SYN", c.fromClient(syn, c.cseq, nil), "pass")
		b.want("old connection", before.say([]byte("x")), "accept")
		b.want("old answer", before.fromServer(ack, before.sseq, []byte("x")), "accept")
		c.cseq++
		b.want("SYN|ACK", c.fromServer(syn|ack, c.sseq, nil), "pass")
		c.sseq++
		b.want("hello", c.say(clientHello(t, "www.blocked.example")), "reject!")
	})
}

func TestSettledAgain(t *testing.T) {
	b := newBench(t, allowList)
	c := b.web().open()
	c.say(clientHello(t, "www.allowed.example"))
	b.want("answer", c.reply([]byte("x")), "accept!")
	b.notes.take()
	b.now += 9 * time.Minute
	b.want("later", c.say([]byte("x")), "accept!")
	b.want("later still", c.reply([]byte("x")), "accept!")
	b.told("")
}

func TestStates(t *testing.T) {
	b := newBench(t, allowList)
	c := b.web()
	b.want("SYN", c.fromClient(syn, c.cseq, nil), "pass")
	b.want("SYN of the other side", c.fromServer(syn, c.sseq, nil), "pass")
	c.cseq++
	b.want("SYN|ACK", c.fromServer(syn|ack, c.sseq, nil), "pass")
	b.want("SYN|ACK", c.fromClient(syn|ack, c.cseq-1, nil), "pass")
	c.sseq++
	b.want("hello", c.say(clientHello(t, "www.blocked.example")), "reject!")

	c = b.conn("10.0.0.1:40001", "203.0.113.5:443").open()
	b.want("RST", c.fromClient(rst, c.cseq, nil), "accept")
	b.want("data behind it", c.say(clientHello(t, "www.blocked.example")), "reject!")

	c = b.conn("10.0.0.1:40002", "203.0.113.5:443").open()
	b.notes.take()
	b.want("FIN", c.fromClient(fin|ack, c.cseq, nil), "pass")
	b.want("answer", c.reply([]byte("x")), "pass")
	b.want("hello behind the FIN", c.say(clientHello(t, "www.allowed.example")), "drop")
	b.notes.take()
	c.cseq = 1002
	b.want("answer to the FIN", c.reply(nil), "reject!")
	b.told("reject s/default none")

	c = b.conn("10.0.0.1:40004", "203.0.113.5:443").open()
	b.want("half", c.say(clientHello(t, "www.allowed.example")[:100]), "pass")
	b.want("FIN", c.fromClient(fin|ack, c.cseq, nil), "pass")
	c.cseq++
	b.want("answer to the FIN", c.reply(nil), "reject!")
	b.told("reject s/default tls malformed")

	c = b.conn("10.0.0.1:40003", "203.0.113.5:443").open()
	b.want("URG", c.fromClient(ack|urg, c.cseq, []byte("x")), "reject!")
	b.told("reject s/default unknown malformed")

	b.want("RST of nobody", b.conn("10.0.0.1:1", "203.0.113.5:2").fromClient(rst, 1, nil), "accept")
}

func TestSubflow(t *testing.T) {
	join := []byte{30, 12, 0x10, 0, 0, 0, 0, 1, 0, 0, 0, 2}
	capable := []byte{30, 4, 0, 1}
	b := newBench(t, allowList)
	b.want("MP_JOIN", b.web().fromClient(syn, 1, nil, join...), "reject")
	b.told("subflow reject nsqueue/mptcp-join")
	b.want("MP_CAPABLE", b.web().fromClient(syn, 1, nil, capable...), "pass")
	b = newBench(t, "\n  default: accept\n  rules: [{name: m, when: tcp.mptcp && server.port == 80, action: drop}]")
	b.want("no rule needs bytes", b.web().fromClient(syn, 1, nil, join...), "accept!")
	b.want("a rule on MPTCP", b.conn("10.0.0.1:1", "203.0.113.5:80").fromClient(syn, 1, nil, capable...), "drop!")
}

func TestTruncated(t *testing.T) {
	b := newBench(t, allowList)
	c := b.web().open()
	packet := tcp(c.client, c.server, ack, c.cseq, c.sseq, nil, clientHello(t, "www.allowed.example"))
	p := &Packet{Payload: packet[:60], Length: len(packet), Direction: 2, SocketUID: -1}
	b.want("half", b.Judge(p, b.now), "reject!")
	b.told("reject s/default tls truncated")
}

func TestTimeout(t *testing.T) {
	for spec, want := range map[string]string{allowList: "reject!", denyList: "accept!"} {
		b := newBench(t, spec)
		c := b.web().open()
		b.want("half", c.say(clientHello(t, "www.blocked.example")[:50]), "pass")
		b.now += DefaultTimeout + time.Second
		b.Tick(b.now)
		if got := b.notes.take(); got != "reject s/default tls timeout" && got != "accept tls timeout" {
			t.Error(got)
		}
		b.want("later", c.say([]byte("x")), want)
	}
}

// Waiting makes no refused connection one of which nothing is known.
func TestRefusedIsNotForgotten(t *testing.T) {
	b := newBench(t, allowList)
	b.web().open()
	c := b.web()
	c.cseq, c.sseq = 1001, 5001
	b.want("RST that the server does not get", c.fromClient(rst, 77, nil), "accept")
	b.want("half", c.say(clientHello(t, "www.blocked.example")[:50]), "pass")
	for i := range 2 * fewFlows {
		b.send(udp(netipPort("10.0.0.1", 1000+i), netipPort("203.0.113.5", 9000), []byte("x")))
	}
	for range 7200 {
		b.now += time.Second
		b.Tick(b.now)
	}
	if flows := b.Stats().Flows; flows > fewFlows {
		t.Errorf("%d flows are left", flows)
	}
	b.want("hello", c.say(clientHello(t, "www.blocked.example")), "reject!")
}

func TestLimit(t *testing.T) {
	b := newBench(t, allowList)
	c := b.web().open()
	hello := slices.Concat([]byte{22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc}, bytes.Repeat([]byte{3}, 1<<14))
	var o Outcome
	for i := 0; i < len(hello) && o.Action <= Pass && !o.Settle; i += 1000 {
		o = c.say(hello[i:min(i+1000, len(hello))])
	}
	b.want("the last", o, "reject!")
	b.told("reject s/default tls limit")
	c = b.conn("10.0.0.1:40001", "203.0.113.5:443").open()
	for i := range 33 {
		o = c.fromClient(ack, c.cseq+uint32(10+20*i), []byte("x"))
	}
	b.want("33 holes", o, "reject!")
	b.told("reject s/default unknown limit")
}

func TestMemory(t *testing.T) {
	b := newBench(t, denyList)
	b.Close()
	b.Pod = New(Config{Rules: rulesOf(t, allowList), Observer: &b.notes, Memory: 64 << 10})
	hello := clientHello(t, "www.allowed.example")
	for i := range 100 {
		c := b.web()
		c.client = netipPort("10.0.0.1", 40000+i)
		b.want("half", c.open().say(hello[:100]), "pass")
	}
	if got := b.Stats(); got.Memory > 64<<10 || got.Errors[[2]string{"tls", "memory"}] < 50 {
		t.Errorf("%+v", got)
	}
}

func TestSecondHello(t *testing.T) {
	const spec = "\n  default: reject\n  rules: [{name: r, when: tls.sni == 'a.example', action: accept, settle: false}]"
	b := newBench(t, spec)
	c := b.web().open()
	b.want("hello", c.say(clientHello(t, "a.example")), "accept")
	b.want("retry", c.reply([]byte("retry")), "accept")
	b.want("change of ciphers", c.say([]byte{20, 3, 3, 0, 1, 1}), "accept")
	b.want("another name", c.say(clientHello(t, "b.example")), "drop")
	b.told("accept s/r tls a.example; conflict drop nsqueue/conflict tls a.example conflict")
	b.want("again", c.say([]byte("x")), "drop!")

	c = b.conn("10.0.0.1:40001", "203.0.113.5:443").open()
	b.want("hello", c.say(clientHello(t, "a.example")), "accept")
	b.want("the same name", c.say(clientHello(t, "a.example")), "accept")
	b.want("data", c.say([]byte{23, 3, 3, 0, 1, 1}), "accept")
	b.want("answer", c.reply([]byte("x")), "accept")
	b.want("it is never settled", c.say([]byte("x")), "accept")
}

func TestAudit(t *testing.T) {
	b := newBench(t, "\n  mode: Audit"+allowList)
	c := b.web().open()
	b.want("hello", c.say(clientHello(t, "www.blocked.example")), "accept")
	b.told("effect reject audit s/default tls www.blocked.example; accept tls www.blocked.example")
}

func TestEffects(t *testing.T) {
	b := newBench(t, `
  rules:
  - {name: l, when: flow.direction == "out", action: log}
  - {name: m, when: server.port == 443, action: mark, mark: 0x10/0xf0}
  - {name: c, when: app.protocol == "tls", action: count}
  - {name: n, when: tls.sni == "a.example", action: next}
  - {name: d, when: "true", action: drop}`)
	c := b.web().open()
	b.told("effect log s/l")
	hello := clientHello(t, "a.example")
	b.want("half", c.say(hello[:100]), "pass")
	b.told("effect count s/c tls")
	o := c.say(hello[100:])
	b.want("hello", o, "accept")
	if o.Mark != 0x10 || o.MarkMask != 0xf0 {
		t.Errorf("mark %x/%x", o.Mark, o.MarkMask)
	}
	b.told("accept tls a.example")
	if o = c.reply([]byte("x")); o.Mark != 0x10 {
		t.Errorf("mark %x", o.Mark)
	}
}

func TestHold(t *testing.T) {
	b := newBench(t, "\n  undecided: Hold"+allowList)
	c := b.web().open()
	hello := clientHello(t, "www.allowed.example")
	o := c.say(hello[:100])
	b.want("half", o, "hold")
	b.want("bare ACK", c.fromClient(ack, c.cseq, nil), "pass")
	p := c.say(hello[100:])
	b.want("rest", p, "accept")
	if o.Flow == 0 || o.Flow != p.Flow {
		t.Errorf("flows %d and %d", o.Flow, p.Flow)
	}
}

// Only bytes of the client wait, and only those of messages that are not complete.
func TestHoldMessages(t *testing.T) {
	b := newBench(t, "\n  undecided: Hold"+allowList)
	c := b.conn("10.0.0.1:40000", "203.0.113.5:53").open()
	question := overTCP(query(1, "www.allowed.example"))
	for _, what := range []string{"first", "second"} {
		b.want(what+" length", c.say(question[:2]), "hold")
		b.want(what+" name", c.say(question[2:20]), "hold")
		if o := c.reply(nil); o.Action == Hold {
			t.Errorf("an answer to the %s: %+v", what, o)
		}
		if o := c.fromClient(ack, c.cseq, nil); o.Action == Hold {
			t.Errorf("an empty segment behind the %s: %+v", what, o)
		}
		b.want(what+" rest", c.say(question[20:]), "accept")
	}

	c = b.conn("10.0.0.1:40001", "203.0.113.5:80").open()
	head := "POST / HTTP/1.1\r\nHost: www.allowed.example\r\nTransfer-Encoding: chunked\r\n\r\n"
	b.want("head", c.say([]byte(head)), "accept")
	b.want("half of a line between chunks", c.say([]byte("3\r\nabc\r\n4")), "accept")
	b.want("chunk", c.say([]byte("\r\nabcd\r\n0\r\n\r\n")), "accept")
	b.want("half a head", c.say([]byte(head[:20])), "hold")
	b.want("bare ACK", c.fromClient(ack, c.cseq, nil), "pass")
	b.want("the rest", c.say([]byte(head[20:])), "accept")
}

// A set that audits holds nothing: those behind it say whether packets wait.
func TestHoldOfSetsThatAudit(t *testing.T) {
	for _, c := range []struct{ first, second, want string }{
		{"\n  mode: Audit\n  undecided: Hold", "", "pass"},
		{"\n  mode: Audit", "\n  undecided: Hold", "hold"},
		{"", "\n  undecided: Hold", "pass"},
		{"\n  undecided: Hold", "\n  mode: Audit", "hold"},
	} {
		b := newBench(t, c.first+allowList+"---\napiVersion: nsqueue.io/v1alpha1\nkind: RuleSet\n"+
			"metadata: {name: t}\nspec:"+c.second+allowList)
		half := clientHello(t, "www.allowed.example")[:100]
		b.want(c.first+c.second, b.web().open().say(half), c.want)
	}
}

// An answer to another SYN than that of the stream begins anew.
func TestAnotherSYN(t *testing.T) {
	b := newBench(t, allowList)
	c := b.web().open()
	b.want("half", c.say(clientHello(t, "www.allowed.example")[:100]), "pass")
	c.cseq = 7000
	b.want("SYN", c.fromClient(syn, c.cseq, nil), "pass")
	c.cseq++
	b.want("SYN|ACK", c.fromServer(syn|ack, 9000, nil), "pass")
	b.want("hello", c.say(clientHello(t, "www.blocked.example")), "reject!")
}

// A pod that opens more connections than it may leaves the others' memory alone.
func TestManyUndecided(t *testing.T) {
	node := budget.New(8<<20, 0, nil)
	list := rulesOf(t, allowList)
	flood, other := New(Config{Rules: list, Node: node}), New(Config{Rules: list, Node: node})
	hello := clientHello(t, "www.allowed.example")
	now := time.Hour
	judge := func(p *Pod, b []byte) Outcome {
		now += time.Microsecond
		return p.Judge(&Packet{Payload: b, Length: len(b), Direction: inspect.Out}, now)
	}
	for i := range 100_000 {
		client := netipPort("10.0."+strconv.Itoa(i>>15)+".1", 1+i&0x7fff)
		server := netipPort("203.0.113.5", 443)
		if o := judge(flood, tcp(client, server, syn, 1, 0, nil, hello[:100])); o.Action != Pass {
			t.Fatalf("flow %d: %+v", i, o)
		}
	}
	s := flood.Stats()
	if s.Flows > DefaultFlows || s.Memory > DefaultMemory || s.Undecided < 500 {
		t.Errorf("%+v", s)
	}
	if node.Used() != s.Memory {
		t.Errorf("the node has %d", node.Used())
	}
	for i, b := range connection(hello)[:4] {
		want := Pass
		if i == 3 {
			want = Accept
		}
		if o := judge(other, b); o.Action != want {
			t.Errorf("packet %d of another pod: %+v", i, o)
		}
	}
	flood.Close()
	other.Close()
	if node.Used() != 0 {
		t.Errorf("%d bytes are still taken", node.Used())
	}
}
