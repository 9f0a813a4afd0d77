// SPDX-License-Identifier: Apache-2.0

package evasion

import (
	"bytes"
	"strings"
	"testing"
)

// say is the play of a client that opens a connection and says segments.
func say(segments func(name string) [][]byte) func(p *player, name string) {
	return func(p *player, name string) { p.web().open().say(segments(name)...) }
}

// one is the play of a client that says one segment.
func one(payload func(name string) []byte) func(p *player, name string) {
	return say(func(name string) [][]byte { return [][]byte{payload(name)} })
}

// broken is an evasion by what a strict reader refuses to understand.
func broken(name string, payload func(name string) []byte) evasion {
	return evasion{name: name, play: one(payload), want: "reject", deny: "accept", always: true}
}

func TestTLS(t *testing.T) {
	runEvasions(t, []evasion{
		{name: "plain", want: "reject", play: one(func(name string) []byte {
			return record(helloOf(name))
		})},
		{name: "upper case", want: "reject", play: one(func(name string) []byte {
			return record(helloOf(strings.ToUpper(name)))
		})},
		{name: "another port", want: "reject", play: func(p *player, name string) {
			p.conn("10.0.0.1:40000", "203.0.113.5:8443").open().say(record(helloOf(name)))
		}},
		{name: "IPv6", want: "reject", play: func(p *player, name string) {
			p.conn("[fd00::1]:40000", "[2001:db8::5]:443").open().say(record(helloOf(name)))
		}},
		{name: "to the pod", want: "reject", play: func(p *player, name string) {
			p.served().open().say(record(helloOf(name)))
		}},
		{name: "final dot", want: "reject", play: one(func(name string) []byte {
			return record(helloOf(name + "."))
		})},
		{name: "post-quantum hello in two segments", want: "pass reject", play: say(func(name string) [][]byte {
			b := record(hello(keyShare(), serverName(hostName(name))))
			return [][]byte{b[:1200], b[1200:]}
		})},
		{name: "records of 100 bytes", want: "reject", play: one(func(name string) []byte {
			return records(helloOf(name), 100)
		})},
		{name: "records of one byte", want: "reject", play: one(func(name string) []byte {
			return records(helloOf(name), 1)
		})},
		{name: "records of one byte in segments of one byte", want: "reject", play: func(p *player, name string) {
			c := p.web().open()
			b := records(helloOf(name), 1)
			p.quietly(func() {
				for _, one := range b[:len(b)-1] {
					c.say([]byte{one})
				}
			})
			c.say(b[len(b)-1:])
		}},
		broken("empty record", func(name string) []byte {
			return append([]byte{22, 3, 1, 0, 0}, record(helloOf(name))...)
		}),
	})
}

func TestServerName(t *testing.T) {
	runEvasions(t, []evasion{
		{
			name: "no server name", want: "reject", deny: "accept", strict: "accept", always: true,
			play: one(func(string) []byte { return record(hello()) }),
		},
		broken("empty", func(string) []byte { return record(helloOf("")) }),
		broken("two names", func(name string) []byte {
			return record(hello(serverName(hostName(allowedName), hostName(name))))
		}),
		broken("two extensions", func(name string) []byte {
			return record(hello(serverName(hostName(allowedName)), serverName(hostName(name))))
		}),
		broken("address instead of a name", func(string) []byte { return record(helloOf("203.0.113.5")) }),
		broken("letters beyond ASCII", func(name string) []byte { return record(helloOf("ä." + name)) }),
		broken("line feed and quote", func(name string) []byte { return record(helloOf("a\r\n\"." + name)) }),
		broken("zero byte", func(name string) []byte { return record(helloOf(allowedName + "\x00." + name)) }),
		broken("256 bytes", func(name string) []byte {
			return record(helloOf(strings.Repeat("a.", 128)[:255-len(name)] + "." + name))
		}),
		broken("length of the list is wrong", func(name string) []byte {
			b := record(helloOf(name))
			b[bytes.Index(b, []byte(name))-4]++
			return b
		}),
	})
}

func TestEncryptedHello(t *testing.T) {
	outer := func(name string) []byte { return record(hello(serverName(hostName(name)), ech())) }
	runEvasions(t, []evasion{
		{name: "outer name is blocked", want: "reject", play: one(outer)},
		{
			name: "outer name is allowed", want: "accept",
			play: one(func(string) []byte { return outer(allowedName) }),
		},
	})
	t.Run("refused by tls.ech", func(t *testing.T) {
		p := newPlayer(t, "\n  rules: [{name: ech, when: tls.ech, action: reject}]")
		p.web().open().say(outer(allowedName))
		p.end("reject")
	})
}

// A server that asks for another hello gets one with another name. The kernel has the
// connection by then, unless the rule keeps it.
func TestSecondHello(t *testing.T) {
	play := func(p *player, name string) {
		c := p.web().open()
		c.say(record(helloOf(allowedName)))
		c.reply([]byte("hello retry request"))
		c.say(record(helloOf(name)))
	}
	runEvasions(t, []evasion{{name: "after settling", play: play, want: "accept accept"}})
	t.Run("settle: false", func(t *testing.T) {
		p := newPlayer(t, strings.ReplaceAll(allowList, "action: accept", "action: accept, settle: false"))
		play(p, blockedName)
		p.end("accept drop")
		p = newPlayer(t, strings.ReplaceAll(allowList, "action: accept", "action: accept, settle: false"))
		play(p, allowedName)
		p.end("accept accept")
	})
}

// What is no protocol that nsqueue reads is unknown: a default refuses it.
func TestUnknownProtocol(t *testing.T) {
	first := func(b string) func(p *player, name string) {
		return func(p *player, name string) {
			c := p.web().open()
			c.say([]byte(b))
			if p.got[len(p.got)-1] == "accept" {
				c.reply([]byte("x"))
			}
			c.say(record(helloOf(name)))
		}
	}
	var list []evasion
	for name, b := range map[string]string{
		"SSLRequest of PostgreSQL": "\x00\x00\x00\x08\x04\xd2\x16\x2f",
		"STARTTLS of SMTP":         "EHLO a.example\r\nSTARTTLS\r\n",
		"PROXY header before TLS":  "PROXY TCP4 10.0.0.1 203.0.113.5 40000 443\r\n",
	} {
		list = append(list, evasion{
			name: name, play: first(b), want: reject(2), deny: "accept accept",
			strict: "accept accept", always: true,
		})
	}
	runEvasions(t, list)
}
