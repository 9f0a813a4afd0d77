// SPDX-License-Identifier: Apache-2.0

package judge

import "testing"

func TestReloadBetweenSegments(t *testing.T) {
	b := newBench(t, allowList)
	c := b.web().open()
	hello := clientHello(t, "www.allowed.example")
	b.want("half", c.say(hello[:100]), "pass")
	b.SetRules(rulesOf(t, "\n  rules: [{name: n, when: tls.sni == 'www.allowed.example', action: drop}]"))
	b.want("rest", c.say(hello[100:]), "drop!")
	b.told("drop s/n tls www.allowed.example")

	c = b.conn("10.0.0.1:40001", "203.0.113.5:443").open()
	b.want("half", c.say(hello[:100]), "pass")
	b.SetRules(rulesOf(t, "\n  default: accept"))
	b.want("a bare ACK is enough", c.fromClient(ack, c.cseq, nil), "accept")
	b.want("rest", c.say(hello[100:]), "accept")
	b.want("answer", c.reply([]byte("x")), "accept!")
}

// A decided flow is decided again from what is remembered of it.
func TestReloadAfterDecision(t *testing.T) {
	b := newBench(t, denyList)
	c := b.web().open()
	hello := clientHello(t, "www.allowed.example")
	b.want("hello", c.say(hello), "accept")
	b.want("answer", c.reply([]byte("x")), "accept!")
	early := b.conn("10.0.0.1:40001", "203.0.113.5:443").open()
	b.want("hello of another", early.say(hello), "accept")
	b.notes.take()
	b.SetRules(rulesOf(t, allowList))
	b.want("allowed", c.say([]byte("x")), "accept!")
	b.want("not acknowledged yet", early.say([]byte("x")), "accept")
	b.told("")
	b.SetRules(rulesOf(t, `
  rules: [{name: n, when: "tls.sni == 'www.allowed.example' && tls.alpn == ['h2']", action: reject}]`))
	b.want("refused", c.say([]byte("x")), "reject!")
	b.want("refused before it is acknowledged", early.reply([]byte("x")), "reject!")
	b.told("reject s/n tls www.allowed.example; reject s/n tls www.allowed.example")
	b.SetRules(nil)
	b.want("no rules", c.say([]byte("x")), "accept!")
}

// What is not remembered is as if the flow was older than all.
func TestReloadOfUnknown(t *testing.T) {
	for spec, want := range map[string]string{allowList: "accept!", "\n  midstream: judge" + allowList: "reject!"} {
		b := newBench(t, "\n  rules: [{name: n, when: server.port == 443, action: accept}]")
		c := b.web()
		b.want("SYN", c.fromClient(syn, c.cseq, nil), "accept!")
		b.SetRules(rulesOf(t, spec))
		b.want("later", c.fromClient(ack, c.cseq+1, []byte("x")), want)
		b.want("another", b.conn("10.0.0.1:40001", "203.0.113.5:443").fromClient(syn, 1, nil), "pass")
	}
}

func TestReloadOfRequests(t *testing.T) {
	b := newBench(t, allowList)
	c := b.conn("10.0.0.1:40000", "203.0.113.5:80").open()
	b.want("request", c.say(get("www.allowed.example")), "accept")
	c.reply([]byte("x"))
	b.SetRules(rulesOf(t, "\n  rules: [{name: n, when: http.path == '/a', action: reject}]"))
	b.want("answer", c.reply([]byte("x")), "accept")
	b.want("request", c.say(get("www.allowed.example")), "reject!")

	c = b.conn("10.0.0.1:40001", "203.0.113.5:80").open()
	b.SetRules(rulesOf(t, allowList))
	b.want("request", c.say(get("www.allowed.example")), "accept")
	b.SetRules(rulesOf(t, "\n  rules: [{name: n, when: server.port == 80, action: drop}]"))
	b.want("answer", c.reply([]byte("x")), "drop!")
}

// Equal rules change nothing, and the new ones are those that events name.
func TestRenew(t *testing.T) {
	b := newBench(t, allowList)
	c := b.web().open()
	hello := clientHello(t, "www.allowed.example")
	b.want("hello", c.say(hello), "accept")
	half := b.conn("10.0.0.1:40001", "203.0.113.5:443").open()
	b.want("half", half.say(hello[:100]), "pass")
	b.notes.take()
	list := rulesOf(t, allowList)
	b.Renew(list)
	b.want("answer", c.reply([]byte("x")), "accept!")
	b.want("rest", half.say(hello[100:]), "accept")
	b.told("accept s/tls tls www.allowed.example")
	for i := range b.rulings[1:] {
		if r := b.rulings[i+1].Rule; r != nil && r != list.Rules()[0] {
			t.Errorf("%s is an old rule", r.Name)
		}
	}
}
