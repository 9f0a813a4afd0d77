// SPDX-License-Identifier: Apache-2.0

package judge

import "testing"

// byUser are rules in which no user is taken for one that is not known.
const byUser = `
  midstream: judge
  default: drop
  rules:
  - {name: inbound, when: flow.direction == "in" && socket.uid == -1, action: accept}
  - {name: root, when: socket.uid == 0, action: reject}
  - {name: high, when: socket.uid == 3000000000, action: accept}
`

func TestSocketUser(t *testing.T) {
	for user, want := range map[int64]string{
		-1: "drop!", 0: "reject!", 1: "drop!", 3_000_000_000: "accept!", 1<<32 - 1: "drop!",
	} {
		b := newBench(t, byUser)
		b.user = user
		c := b.web()
		b.want("SYN", c.fromClient(syn, c.cseq, nil), want)
		from, to := netipPort("10.0.0.1", 5000), netipPort("203.0.113.5", 5001)
		b.want("datagram", b.send(udp(from, to, []byte("x"))), want)
	}
}

// Of a connection to the pod the user is that of nobody, although the pod's answer has one.
func TestUserOfServer(t *testing.T) {
	b := newBench(t, byUser)
	b.user = 0
	c := b.conn("203.0.113.5:40000", "10.0.0.1:80")
	b.want("SYN", c.fromClient(syn, c.cseq, nil), "accept!")
	b.want("answer", c.fromServer(syn|ack, c.sseq, nil), "accept!")
	older := b.conn("203.0.113.5:40001", "10.0.0.1:80")
	b.want("midstream", older.fromServer(ack, 77, []byte("x")), "accept!")
}

// Rules that ask for the user come when flows are there, whose users nobody has asked for.
// What comes in tells none: it decides for as long as nothing goes out.
func TestUserIsLearnt(t *testing.T) {
	for user, want := range map[int64]string{0: "reject!", 3_000_000_000: "accept!", -1: "drop!"} {
		b := newBench(t, "\n  default: accept")
		c := b.web()
		b.want("SYN", c.fromClient(syn, c.cseq, nil), "accept!")
		from, to := netipPort("10.0.0.1", 5000), netipPort("203.0.113.5", 5001)
		b.want("datagram", b.send(udp(from, to, []byte("x"))), "accept!")
		b.SetRules(rulesOf(t, byUser))
		b.user = user
		b.want("TCP in", c.fromServer(syn|ack, c.sseq, nil), "drop")
		b.want("UDP in", b.send(udp(to, from, []byte("x"))), "drop")
		b.want("TCP out", c.fromClient(ack, c.cseq+1, []byte("x")), want)
		b.want("UDP out", b.send(udp(from, to, []byte("x"))), want)
		b.user = 7 // another user's socket sends by the same ports
		b.want("UDP out again", b.send(udp(from, to, []byte("x"))), map[bool]string{
			true: "drop!", false: want,
		}[user == -1])
	}
}

// So is that of a flow that is not decided yet.
func TestUserIsLearntOfUndecided(t *testing.T) {
	b := newBench(t, denyList)
	c := b.web().open()
	hello := clientHello(t, "www.allowed.example")
	b.want("half", c.say(hello[:100]), "pass")
	b.SetRules(rulesOf(t, `
  default: drop
  rules: [{name: n, when: tls.sni == "www.allowed.example" && socket.uid == 1000, action: accept}]`))
	b.user = 1000
	b.want("rest", c.say(hello[100:]), "accept")
	b.want("answer", c.reply([]byte("x")), "accept!")
}

// Where no rule asks, it does not matter that the user is not known.
func TestUserDoesNotMatter(t *testing.T) {
	b := newBench(t, "\n  default: accept")
	c := b.web()
	b.want("SYN", c.fromClient(syn, c.cseq, nil), "accept!")
	b.want("answer", c.fromServer(syn|ack, c.sseq, nil), "accept!")
}
