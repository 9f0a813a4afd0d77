// SPDX-License-Identifier: Apache-2.0

package evasion

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
)

// ask is the play of a pod that sends datagrams to a resolver.
func ask(messages func(name string) [][]byte) func(p *player, name string) {
	return func(p *player, name string) {
		for _, m := range messages(name) {
			p.send(udpPacket(addrPort("10.0.0.1:4000"), addrPort("10.96.0.10:53"), m))
		}
	}
}

func askOne(message func(name string) []byte) func(p *player, name string) {
	return ask(func(name string) [][]byte { return [][]byte{message(name)} })
}

// resolver is a connection of the pod's to one.
func (p *player) resolver() *conn { return p.conn("10.0.0.1:40000", "10.96.0.10:53").open() }

func TestDNS(t *testing.T) {
	runEvasions(t, []evasion{
		{name: "query", want: "reject", play: askOne(func(name string) []byte { return query(1, name) })},
		{name: "mixed case", want: "reject", play: askOne(func(name string) []byte {
			return query(1, strings.Replace(strings.ToUpper(name), "E", "e", 1))
		})},
		{name: "another type", want: "reject", play: askOne(func(name string) []byte { return question(query(1, name), 65) })},
		{name: "another port", want: "reject", play: func(p *player, name string) {
			p.send(udpPacket(addrPort("10.0.0.1:4000"), addrPort("10.96.0.10:5300"), query(1, name)))
		}},
		{name: "to the pod", want: "reject", play: func(p *player, name string) {
			p.send(udpPacket(addrPort("198.51.100.7:4000"), addrPort("10.0.0.1:53"), query(1, name)))
		}},
		{name: "behind a query that was accepted", want: "accept reject", play: ask(func(name string) [][]byte {
			return [][]byte{query(1, allowedName), query(2, name)}
		})},
		{name: "second question", want: "reject", play: askOne(func(name string) []byte {
			return query(1, allowedName, name)
		})},
		{name: "compressed question", want: "reject", play: askOne(func(name string) []byte {
			b := query(1, name)
			binary.BigEndian.PutUint16(b[4:], 2)
			return append(b, 3, 'a', 'p', 'i', 0xc0, 12, 0, 1, 0, 1)
		})},
		{name: "EDNS of 4,096 bytes", want: "reject", play: askOne(func(name string) []byte {
			b := append(query(1, name), 0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0)
			b[11] = 1
			return b
		})},
		{name: "transfer of a zone", want: "reject", play: func(p *player, name string) {
			p.resolver().say(overTCP(question(query(1, name), 252)))
		}},
		{name: "pointer that loops", want: "reject", deny: "accept", always: true, play: askOne(func(string) []byte {
			return append(query(1, "a")[:12], 0xc0, 12, 0, 1, 0, 1)
		})},
		{name: "pointer that points forward", want: "reject", deny: "accept", always: true, play: askOne(func(name string) []byte {
			return dnsName(append(query(1, "a")[:12], 0xc0, 18, 0, 1, 0, 1), name)
		})},
		{name: "second question cannot be read", want: "reject", deny: "accept", always: true, play: askOne(func(string) []byte {
			b := query(1, allowedName)
			binary.BigEndian.PutUint16(b[4:], 2)
			return append(b, 0xc0, 0xff, 0, 1, 0, 1)
		})},
		{name: "more questions than are read", want: "reject", deny: "accept", strict: "accept", always: true, play: askOne(func(name string) []byte {
			names := slices.Repeat([]string{allowedName}, 16)
			return query(1, append(names, name)...)
		})},
		{name: "something else first", want: "reject accept", deny: "accept reject", strict: "accept reject", always: true, play: func(p *player, name string) {
			ask(func(string) [][]byte { return [][]byte{{1, 2, 3}} })(p, name)
			if p.got[0] == "accept" {
				ask(func(string) [][]byte { return [][]byte{query(1, name)} })(p, name)
				return
			}
			ask(func(string) [][]byte { return [][]byte{query(1, allowedName)} })(p, name)
		}},
	})
}

func TestDNSOverTCP(t *testing.T) {
	split := func(at int) func(p *player, name string) {
		return func(p *player, name string) {
			b := overTCP(query(1, name))
			p.resolver().say(b[:at], b[at:])
		}
	}
	runEvasions(t, []evasion{
		{name: "query over TCP", want: "reject", play: func(p *player, name string) {
			p.resolver().say(overTCP(query(1, name)))
		}},
		{name: "length in two segments", want: "pass reject", play: split(1)},
		{name: "name in two segments", want: "pass reject", play: split(25)},
		{name: "two messages in a segment", want: "reject", play: func(p *player, name string) {
			p.resolver().say(append(overTCP(query(1, allowedName)), overTCP(query(2, name))...))
		}},
		{name: "later message", want: "accept reject", play: func(p *player, name string) {
			c := p.resolver()
			c.say(overTCP(query(1, allowedName)))
			c.reply(overTCP(answer(query(1, allowedName), address("192.0.2.1"))))
			c.say(overTCP(query(2, name)))
		}},
		{name: "many messages", want: "reject", play: func(p *player, name string) {
			c := p.resolver()
			p.quietly(func() {
				for range 1000 { // more bytes than a stream keeps
					c.say(overTCP(query(1, allowedName)))
					c.answer(ack, nil)
				}
			})
			c.say(overTCP(query(2, name)))
		}},
		{name: "urgent byte behind a message", want: "accept reject reject", deny: "accept accept accept", always: true, play: func(p *player, _ string) {
			c := p.resolver()
			c.say(overTCP(query(1, allowedName)))
			c.reply(overTCP(answer(query(1, allowedName), address("192.0.2.1"))))
			c.send(ack|urg, c.cseq, nil)
			c.send(ack, c.cseq, nil)
		}},
		{name: "other bytes in a later message", want: "accept drop", always: true, play: func(p *player, name string) {
			c := p.resolver()
			c.say(overTCP(query(1, allowedName)))
			c.send(ack, c.cseq-20, []byte("0123456789"))
		}},
	})
}

// DNS over TLS, HTTPS and QUIC is TLS: nobody but the resolver sees what is asked.
func TestEncryptedDNS(t *testing.T) {
	for name, server := range map[string]string{
		"DNS over TLS": "203.0.113.5:853", "DNS over HTTPS": "203.0.113.5:443",
	} {
		runEvasions(t, []evasion{
			{name: name + ", resolver is blocked", want: "reject", play: func(p *player, name string) {
				p.conn("10.0.0.1:40000", server).open().say(record(helloOf(name)))
			}},
			{name: name + ", resolver without a name", want: "reject", deny: "accept", strict: "accept", always: true, play: func(p *player, _ string) {
				p.conn("10.0.0.1:40000", server).open().say(record(hello()))
			}},
			{name: name + ", resolver is allowed", want: "accept", always: true, play: func(p *player, _ string) {
				p.conn("10.0.0.1:40000", server).open().say(record(helloOf(allowedName)))
			}},
		})
	}
	t.Run("DNS over QUIC", func(t *testing.T) {
		runEvasions(t, []evasion{{name: "resolver is blocked", want: "reject", play: func(p *player, name string) {
			b := initial{dcid: "12345678", frames: plain(helloOf(name)), size: 1200}.seal(p.tb)
			p.send(udpPacket(addrPort("10.0.0.1:4000"), addrPort("203.0.113.5:853"), b))
		}}})
	})
	t.Run("keys of encrypted hellos", func(t *testing.T) {
		p := newPlayer(t, "\n  rules: [{name: keys, when: dns.type == 'HTTPS', action: reject}]")
		ask(func(name string) [][]byte {
			return [][]byte{query(1, name), question(query(2, name), 65)}
		})(p, allowedName)
		p.end("accept reject")
	})
}
