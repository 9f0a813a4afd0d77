// SPDX-License-Identifier: Apache-2.0

package evasion

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

func TestSegments(t *testing.T) {
	tls := func(name string) []byte { return record(helloOf(name)) }
	runEvasions(t, []evasion{
		{name: "split inside the name", want: "pass reject", play: say(func(name string) [][]byte {
			b := tls(name)
			at := bytes.Index(b, []byte(name)) + 5
			return [][]byte{b[:at], b[at:]}
		})},
		{name: "first segment of one byte", want: "pass reject", play: say(func(name string) [][]byte {
			b := tls(name)
			return [][]byte{b[:1], b[1:]}
		})},
		{name: "out of order", want: "pass pass reject", play: func(p *player, name string) {
			c, b := p.web().open(), tls(name)
			first := c.cseq
			c.cseq += uint32(len(b))
			c.send(ack, first+100, b[100:])
			c.send(ack, first, b[:50])
			c.send(ack, first+50, b[50:100])
		}},
		{name: "backwards, byte by byte", want: "reject", play: func(p *player, name string) {
			c, b := p.web().open(), tls(name)[:20]
			b = append(b, tls(name)[20:]...)
			first := c.cseq
			c.cseq += uint32(len(b))
			p.quietly(func() {
				c.send(ack, first+20, b[20:])
				for i := 19; i > 0; i-- {
					c.send(ack, first+uint32(i), b[i:i+1])
				}
			})
			c.send(ack, first, b[:1])
		}},
		{name: "out of order to the pod", want: "pass reject", play: func(p *player, name string) {
			c, b := p.served().open(), tls(name)
			first := c.cseq
			c.cseq += uint32(len(b))
			c.send(ack, first+60, b[60:])
			c.send(ack, first, b[:60])
		}},
		{name: "sent again after it was refused", want: reject(2), play: func(p *player, name string) {
			c, b := p.web().open(), tls(name)
			c.say(b)
			c.send(ack, c.cseq-uint32(len(b)), b)
		}},
		{name: "sequence numbers wrap around", want: "pass reject", play: func(p *player, name string) {
			c := p.web()
			c.cseq = 0xffffffff - 40
			b := tls(name)
			c.open().say(b[:80], b[80:])
		}},
		{name: "bytes behind the IP packet", want: "reject", play: func(p *player, name string) {
			c := p.web().open()
			b := c.segment(ack, c.cseq, tls(name)).packet()
			p.send(append(b, tls(allowedName)...))
			c.refused = true
		}},
	})
}

// Sender and receiver agree which of two different bytes counts. Nobody else can know, so
// the second never passes.
func TestOverlap(t *testing.T) {
	tls := func(name string) []byte { return record(helloOf(name)) }
	overlap := func(first, second func(name string) string) func(p *player, name string) {
		return func(p *player, name string) {
			c := p.web().open()
			a, b := tls(first(name)), tls(second(name))
			seq := c.cseq
			c.cseq += uint32(len(a))
			c.send(ack, seq+10, a[10:])
			c.send(ack, seq, b)
		}
	}
	blocked := func(name string) string { return name }
	allowed := func(string) string { return allowedName }
	again := func(answered bool) func(p *player, name string) {
		return func(p *player, name string) {
			c := p.web().open()
			b := tls(allowedName)
			c.say(b)
			if answered {
				p.quietly(func() { c.answer(ack, nil) })
			}
			c.send(ack, c.cseq-uint32(len(b)), tls(name))
		}
	}
	runEvasions(t, []evasion{
		{name: "allowed name first, out of order", want: "pass drop", play: overlap(allowed, blocked)},
		{name: "blocked name first, out of order", want: "pass drop", always: true, play: overlap(blocked, allowed)},
		{name: "again with other bytes after it was accepted", want: "accept drop", play: again(false)},
		{name: "again with other bytes after it was received", want: "accept accept", play: again(true)},
		{name: "again with other bytes before the decision", want: "pass drop pass reject", always: true, play: func(p *player, name string) {
			c, b := p.web().open(), tls(name)
			other := bytes.Repeat([]byte{1}, 60)
			c.say(b[:60])
			c.send(ack, c.cseq-60, other)
			c.send(ack, c.cseq-60, b[:60])
			c.say(b[60:])
		}},
		{name: "old timestamp with other bytes", want: "pass drop reject", always: true, play: func(p *player, name string) {
			c, b := p.web().open(), tls(name)
			stamp := func(v byte) []byte { return []byte{1, 1, 8, 10, 0, 0, 0, v, 0, 0, 0, 1} }
			seq := c.cseq
			c.cseq += uint32(len(b))
			c.send(ack, seq, b[:60], stamp(9)...)
			c.send(ack, seq, bytes.Repeat([]byte{1}, 60), stamp(1)...)
			c.send(ack, seq+60, b[60:], stamp(10)...)
		}},
		{name: "outside of the window", want: "drop reject", always: true, play: func(p *player, name string) {
			c, b := p.web().open(), tls(name)
			c.send(ack, c.cseq+1<<20, tls(allowedName))
			c.say(b)
		}},
		{name: "before the start", want: "drop reject", always: true, play: func(p *player, name string) {
			c, b := p.web().open(), tls(name)
			c.send(ack, c.cseq-1000, tls(allowedName))
			c.say(b)
		}},
		{name: "urgent byte", want: reject(2), deny: "accept accept", always: true, play: func(p *player, name string) {
			c, b := p.web().open(), tls(name)
			c.cseq += uint32(len(b))
			c.send(ack|urg, c.cseq-uint32(len(b)), b[:60])
			c.send(ack, c.cseq-uint32(len(b))+60, b[60:])
		}},
	})
}

// Who receives a packet with a wrong checksum throws it away, so it must not count.
func TestChecksum(t *testing.T) {
	runEvasions(t, []evasion{{
		name: "decoy with a wrong checksum", want: "drop reject", always: true,
		play: func(p *player, name string) {
			c := p.served().open()
			b := c.segment(ack, c.cseq, record(helloOf(allowedName))).packet()
			b[36] ^= 0x55
			p.sendPacket(&inspect.Packet{Payload: b, Length: len(b), Checksum: inspect.ChecksumUnverified})
			c.say(record(helloOf(name)))
		},
	}, {
		name: "decoy of UDP with a wrong checksum", want: "drop reject", always: true,
		play: func(p *player, name string) {
			b := udpPacket(addrPort("198.51.100.7:4000"), addrPort("10.0.0.1:53"), query(1, allowedName))
			b[26] ^= 0x55
			p.sendPacket(&inspect.Packet{Payload: b, Length: len(b), Checksum: inspect.ChecksumUnverified})
			p.send(udpPacket(addrPort("198.51.100.7:4000"), addrPort("10.0.0.1:53"), query(1, name)))
		},
	}})
}

func TestHandshake(t *testing.T) {
	tls := func(name string) []byte { return record(helloOf(name)) }
	cookie := []byte{34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1}
	runEvasions(t, []evasion{
		{name: "hello in the SYN", want: "reject", play: func(p *player, name string) {
			c := p.web()
			c.send(syn, c.cseq, tls(name), cookie...)
		}},
		{name: "bytes in the SYN without a cookie", want: "pass pass reject", play: func(p *player, name string) {
			c, b := p.web(), tls(name)
			c.send(syn, c.cseq, b[:60])
			c.cseq++
			c.answer(syn|ack, nil) // it confirms none of them
			c.sseq++
			c.say(b)
		}},
		{name: "half a hello in the SYN", want: "pass pass reject", play: func(p *player, name string) {
			c, b := p.web(), tls(name)
			c.send(syn, c.cseq, b[:60], cookie...)
			c.cseq += 61
			c.answer(syn|ack, nil)
			c.sseq++
			c.say(b[60:])
		}},
		{name: "simultaneous open", want: "pass pass pass pass reject", play: func(p *player, name string) {
			c := p.web()
			c.send(syn, c.cseq, nil)
			c.p.send(segment{from: addrPort(c.server), to: addrPort(c.client), flags: syn, seq: c.sseq}.packet())
			c.cseq++
			c.answer(syn|ack, nil)
			c.sseq++
			c.send(syn|ack, c.cseq-1, nil)
			c.start = c.cseq
			c.say(tls(name))
		}},
		{name: "RST that the server does not believe", want: "accept reject", play: func(p *player, name string) {
			c := p.web().open()
			c.send(rst, c.cseq+5, nil)
			c.say(tls(name))
		}},
		{name: "RST before the hello", want: "accept reject", play: func(p *player, name string) {
			c := p.web().open()
			c.send(rst, c.cseq, nil)
			c.say(tls(name))
		}},
		{name: "FIN before the hello", want: "pass drop", always: true, play: func(p *player, name string) {
			c := p.web().open()
			c.send(fin|ack, c.cseq, nil) // the server takes nothing behind it
			c.say(tls(name))
		}},
		{name: "FIN that does not arrive before the hello", want: "pass reject", play: func(p *player, name string) {
			c, b := p.web().open(), tls(name)
			c.say(b[:60])
			c.send(fin|ack, c.cseq+5000, nil)
			p.got = p.got[:1]
			c.say(b[60:])
		}},
		{name: "FIN with the hello", want: "reject", play: func(p *player, name string) {
			c, b := p.web().open(), tls(name)
			c.cseq += uint32(len(b))
			c.send(fin|ack, c.cseq-uint32(len(b)), b)
		}},
		{name: "another SYN between the same ports", want: "pass pass pass reject", play: func(p *player, name string) {
			c := p.web().open()
			c.say(tls(allowedName)[:60])
			c.cseq = 700000
			c.send(syn, c.cseq, nil)
			c.cseq++
			c.start = c.cseq
			c.answer(syn|ack, nil)
			c.sseq++
			c.say(tls(name))
		}},
		{name: "another SYN between the same ports, and DNS", want: "pass accept reject", play: func(p *player, name string) {
			c := p.resolver()
			c.say(overTCP(query(1, allowedName))[:1])
			c.again()
			p.quietly(func() {
				c.send(syn, c.cseq, nil)
				c.cseq++
				c.answer(syn|ack, nil)
				c.sseq++
			})
			c.say(overTCP(query(2, allowedName)))
			c.reply(overTCP(answer(query(2, allowedName), address("192.0.2.1"))))
			c.say(overTCP(query(3, name)))
		}},
		{name: "SYN that the server does not answer", want: "pass pass reject", play: func(p *player, name string) {
			c, b := p.web().open(), tls(name)
			c.say(b[:60])
			c.send(syn, c.cseq+100000, nil)
			c.say(b[60:])
		}},
		{name: "many SYNs before the hello", want: "reject", always: true, play: func(p *player, name string) {
			c := p.web().open()
			for i := range 40 {
				c.send(syn, c.cseq+100000+uint32(1000*i), nil)
			}
			if got := last(p.got); got != "drop" {
				p.tb.Errorf("the last SYN: %s", got)
			}
			p.got = nil
			c.say(tls(name))
		}},
		{name: "subflow of MPTCP", want: "reject", always: true, play: func(p *player, _ string) {
			c := p.web()
			c.send(syn, c.cseq, nil, 30, 12, 0x10, 0, 0, 0, 0, 1, 0, 0, 0, 2)
		}},
		{name: "MPTCP", want: "reject", play: func(p *player, name string) {
			c := p.web()
			p.quietly(func() {
				c.send(syn, c.cseq, nil, 30, 4, 1, 0)
				c.cseq++
				c.start = c.cseq
				c.answer(syn|ack, nil)
				c.sseq++
			})
			c.say(tls(name))
		}},
	})
}

// A connection that nobody saw the start of is as its sets say.
func TestMidstream(t *testing.T) {
	play := func(p *player, name string) { p.web().say(record(helloOf(name))) }
	runEvasions(t, []evasion{
		{name: "middle of a connection", want: "accept", always: true, play: play},
		{
			name: "middle of a connection, midstream: judge", want: "reject", deny: "accept", always: true,
			spec: "\n  midstream: judge", play: play,
		},
	})
}

// settled opens a connection with the allowed name, which the kernel gets.
func settled(p *player) *conn {
	c := p.web().open()
	p.quietly(func() { c.say(record(helloOf(allowedName))) })
	c.reply([]byte("server hello"))
	return c
}

func TestAfterSettling(t *testing.T) {
	another := func(p *player, name string) {
		c := settled(p)
		c.again().open().say(record(helloOf(name)))
	}
	runEvasions(t, []evasion{
		{name: "connection between the same ports", want: "reject", play: another},
		{name: "connection between the same ports after an end", want: "reject", play: func(p *player, name string) {
			c := settled(p)
			p.quietly(func() {
				c.send(fin|ack, c.cseq, nil)
				c.answer(fin|ack, nil)
			})
			c.again().open().say(record(helloOf(name)))
		}},
		{name: "connection older than settle.timeout", want: "accept accept", always: true, play: func(p *player, _ string) {
			c := settled(p)
			p.wait(9 * time.Minute)
			c.say([]byte("x"))
			p.wait(9 * time.Minute)
			c.say([]byte("x"))
			if len(p.told) != 1 {
				p.tb.Errorf("told %q", p.told)
			}
		}},
		{name: "QUIC between the same ports", want: "reject", play: func(p *player, name string) {
			from, to := addrPort("10.0.0.1:4000"), addrPort("203.0.113.5:443")
			p.quietly(func() {
				p.send(udpPacket(from, to, initial{dcid: "12345678", frames: plain(helloOf(allowedName)), size: 1200}.seal(p.tb)))
				p.send(udpPacket(to, from, append([]byte{0x40}, make([]byte, 40)...)))
			})
			p.send(udpPacket(from, to, initial{dcid: "abcdefgh", frames: plain(helloOf(name)), size: 1200}.seal(p.tb)))
		}},
	})
}

func TestTruncated(t *testing.T) {
	truncated := func(p *player, b []byte, n int) {
		p.sendPacket(&inspect.Packet{Payload: b[:n], Length: len(b)})
	}
	runEvasions(t, []evasion{
		{name: "truncated copy of a segment", want: "reject", deny: "accept", always: true, play: func(p *player, name string) {
			c := p.web().open()
			b := record(helloOf(name))
			truncated(p, c.segment(ack, c.cseq, b).packet(), 100)
		}},
		{name: "truncated copy behind the hello", want: "reject", play: func(p *player, name string) {
			c := p.web().open()
			b := slices.Concat(record(helloOf(name)), bytes.Repeat([]byte{23}, 50000))
			truncated(p, c.segment(ack, c.cseq, b).packet(), 2000)
		}},
		{name: "longer than 64 KiB", want: "reject", play: func(p *player, name string) {
			c := p.conn("[fd00::1]:40000", "[2001:db8::5]:443").open()
			b := slices.Concat(record(helloOf(name)), bytes.Repeat([]byte{23}, 100000))
			packet := c.segment(ack, c.cseq, b).packet()
			packet[4], packet[5] = 0, 0
			truncated(p, packet, 60000)
		}},
		{name: "truncated copy of a query", want: "reject", deny: "accept", always: true, play: func(p *player, name string) {
			b := udpPacket(addrPort("10.0.0.1:4000"), addrPort("10.96.0.10:53"), query(1, allowedName, name))
			truncated(p, b, len(b)-10)
		}},
		{name: "truncated copy of QUIC", want: "reject", deny: "accept", always: true, play: func(p *player, name string) {
			b := udpPacket(addrPort("10.0.0.1:4000"), addrPort("203.0.113.5:443"),
				initial{dcid: "12345678", frames: plain(helloOf(name)), size: 1200}.seal(p.tb))
			truncated(p, b, 600)
		}},
	})
}

// What a client does not complete is decided by what there is.
func TestIncomplete(t *testing.T) {
	runEvasions(t, []evasion{
		{name: "hello is never completed", want: "pass reject", deny: "pass accept", always: true, play: func(p *player, name string) {
			c, b := p.web().open(), record(helloOf(name))
			c.say(b[:60])
			p.wait(11 * time.Second)
			c.say(b[60:])
		}},
		{name: "hello without an end", want: "reject", deny: "accept", always: true, play: func(p *player, _ string) {
			c := p.web().open()
			b := append([]byte{22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc}, bytes.Repeat([]byte{3}, 1<<14)...)
			for len(b) > 0 && !strings.Contains("reject accept", or(last(p.got), "x")) {
				n := min(1400, len(b))
				c.say(b[:n])
				b = b[n:]
			}
			p.got = p.got[len(p.got)-1:]
		}},
		{name: "too many holes", want: "reject", deny: "accept", always: true, play: func(p *player, _ string) {
			c := p.web().open()
			for i := range 33 {
				c.send(ack, c.cseq+uint32(10+20*i), []byte("x"))
			}
			p.got = p.got[len(p.got)-1:]
		}},
	})
}

func last(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[len(list)-1]
}
