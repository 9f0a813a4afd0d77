// SPDX-License-Identifier: Apache-2.0

package evasion

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// quicFlow is a flow of QUIC from the pod to a server.
type quicFlow struct{ p *player }

func (f quicFlow) say(datagrams ...[]byte) {
	f.p.tb.Helper()
	for _, b := range datagrams {
		f.p.send(udpPacket(addrPort("10.0.0.1:4000"), addrPort("203.0.113.5:443"), b))
	}
}

func (f quicFlow) seal(i initial) []byte {
	f.p.tb.Helper()
	if i.dcid == "" {
		i.dcid = "12345678"
	}
	i.size = max(i.size, 1200)
	return i.seal(f.p.tb)
}

// reply sends a datagram of the server, which passes.
func (f quicFlow) reply(b []byte) {
	f.p.tb.Helper()
	f.p.quietly(func() {
		f.p.send(udpPacket(addrPort("203.0.113.5:443"), addrPort("10.0.0.1:4000"), b))
	})
}

// merged sends datagrams that the kernel has not cut yet, nor tells the size of.
func (f quicFlow) merged(datagrams ...[]byte) {
	f.p.tb.Helper()
	b := udpPacket(addrPort("10.0.0.1:4000"), addrPort("203.0.113.5:443"), slices.Concat(datagrams...))
	f.p.sendPacket(&inspect.Packet{Payload: b, Length: len(b), Merged: true})
}

// long is a hello of two datagrams.
func long(name string) []byte { return hello(keyShare(), serverName(hostName(name))) }

// halves are the frames of a hello in two parts.
func halves(message []byte) (a, b []byte) {
	return cryptoFrame(message, 0, 1000), cryptoFrame(message, 1000, len(message))
}

func TestQUIC(t *testing.T) {
	play := func(datagrams func(f quicFlow, name string) [][]byte) func(p *player, name string) {
		return func(p *player, name string) { f := quicFlow{p}; f.say(datagrams(f, name)...) }
	}
	list := []evasion{
		{name: "one datagram", want: "reject", play: play(func(f quicFlow, name string) [][]byte {
			return [][]byte{f.seal(initial{frames: plain(helloOf(name))})}
		})},
		{name: "version 2", want: "reject", play: play(func(f quicFlow, name string) [][]byte {
			return [][]byte{f.seal(initial{version: quic2, frames: plain(helloOf(name))})}
		})},
		{name: "connection ID of no bytes", want: "reject", play: func(p *player, name string) {
			quicFlow{p}.say(initial{frames: plain(helloOf(name)), size: 1200}.seal(p.tb))
		}},
		{name: "hello in two datagrams", want: "pass reject", play: play(func(f quicFlow, name string) [][]byte {
			a, b := halves(long(name))
			return [][]byte{f.seal(initial{frames: a}), f.seal(initial{number: 1, frames: b})}
		})},
		{name: "second datagram first", want: "pass reject", play: play(func(f quicFlow, name string) [][]byte {
			a, b := halves(long(name))
			return [][]byte{f.seal(initial{number: 1, frames: b}), f.seal(initial{frames: a})}
		})},
		{name: "frames in any order", want: "reject", play: play(func(f quicFlow, name string) [][]byte {
			m := helloOf(name)
			ping, padding, acked := []byte{1}, []byte{0, 0, 0}, []byte{2, 0, 0, 0, 0}
			return [][]byte{f.seal(initial{frames: slices.Concat(
				padding, cryptoFrame(m, 100, len(m)), ping, acked, cryptoFrame(m, 0, 40), padding, cryptoFrame(m, 30, 100))})}
		})},
		{name: "two packets in a datagram", want: "reject", play: play(func(f quicFlow, name string) [][]byte {
			m := helloOf(name)
			a := initial{dcid: "12345678", frames: cryptoFrame(m, 0, 80)}.seal(f.p.tb)
			return [][]byte{append(a, f.seal(initial{number: 1, frames: cryptoFrame(m, 80, len(m))})...)}
		})},
		{name: "behind another kind of packet", want: "reject", play: play(func(f quicFlow, name string) [][]byte {
			early := append(longHeader(1, quic1, "12345678", "scid"), varint(nil, 100)...)
			return [][]byte{append(append(early, make([]byte, 100)...), f.seal(initial{frames: plain(helloOf(name))})...)}
		})},
		{name: "Retry", want: "reject", play: func(p *player, name string) {
			f := quicFlow{p}
			a, b := halves(long(name))
			p.quietly(func() { f.say(f.seal(initial{frames: a})) })
			f.reply(append(longHeader(3, quic1, "scid", "retry-id"), "token and a tag of 16"...))
			p.quietly(func() { f.say(f.seal(initial{dcid: "retry-id", token: "token", number: 1, frames: a})) })
			f.say(f.seal(initial{dcid: "retry-id", token: "token", number: 2, frames: b}))
		}},
		{name: "connection ID of the server", want: "reject", play: func(p *player, name string) {
			f := quicFlow{p}
			a, b := halves(long(name))
			p.quietly(func() { f.say(f.seal(initial{frames: a})) })
			reply := append(longHeader(0, quic1, "scid", "serverID"), 0)
			f.reply(append(append(reply, varint(nil, 100)...), make([]byte, 100)...))
			f.say(f.seal(initial{dcid: "serverID", keys: "12345678", number: 1, frames: b}))
		}},
		{name: "Version Negotiation", want: "reject", play: func(p *player, name string) {
			f := quicFlow{p}
			p.quietly(func() { f.say(append(longHeader(0, 0x1a2a3a4a, "12345678", "scid"), make([]byte, 1180)...)) })
			f.reply(append(longHeader(0, 0, "scid", "12345678"), 0, 0, 0, 1))
			f.say(f.seal(initial{frames: plain(helloOf(name))}))
		}},
		{name: "bit 0x40 is clear", want: "reject", play: play(func(f quicFlow, name string) [][]byte {
			return [][]byte{sealGreased(f, name)}
		})},
		{name: "broken packet first", want: "pass reject", play: play(func(f quicFlow, name string) [][]byte {
			bad := f.seal(initial{frames: plain(helloOf(allowedName))})
			bad[700] ^= 1
			return [][]byte{bad, f.seal(initial{frames: plain(helloOf(name))})}
		})},
		{name: "other bytes at the same place", want: "pass drop", always: true, play: play(func(f quicFlow, name string) [][]byte {
			a, _ := halves(long(name))
			_, b := halves(bytes.ToUpper(long(name)))
			other := slices.Clone(long(name))
			other[900] ^= 1
			return [][]byte{f.seal(initial{frames: a}), f.seal(initial{number: 1, frames: slices.Concat(cryptoFrame(other, 800, 1000), b)})}
		})},
	}
	runEvasions(t, list)
}

// sealGreased clears the fixed bit of a hello's packet, as RFC 9287 allows.
func sealGreased(f quicFlow, name string) []byte {
	b := initial{dcid: "12345678", frames: plain(helloOf(name)), size: 1200, greased: true}
	return b.seal(f.p.tb)
}

func TestIncompleteQUIC(t *testing.T) {
	half := func(f quicFlow, name string, number byte) []byte {
		a, _ := halves(long(name))
		return f.seal(initial{number: number, frames: a})
	}
	runEvasions(t, []evasion{
		{name: "four datagrams without a whole hello", want: "pass pass pass reject", deny: "pass pass pass accept", always: true, play: func(p *player, name string) {
			for i := range 4 {
				f := quicFlow{p}
				f.say(half(f, name, byte(i)))
			}
		}},
		{name: "hello is later than 50 ms", want: "pass reject", deny: "pass accept", always: true, play: func(p *player, name string) {
			f := quicFlow{p}
			f.say(half(f, allowedName, 0))
			p.wait(60 * time.Millisecond)
			f.say(half(f, name, 0))
		}},
		{name: "other half is later than 50 ms", want: "pass reject", deny: "pass accept", always: true, play: func(p *player, name string) {
			f := quicFlow{p}
			_, b := halves(long(name))
			f.say(half(f, name, 0))
			p.wait(60 * time.Millisecond)
			f.say(f.seal(initial{number: 1, frames: b}))
		}},
	})
}

// Datagrams that a program has sent by one call come as one packet. The kernel does not tell
// how long each is.
func TestMergedDatagrams(t *testing.T) {
	merged := func(p *player, messages ...[]byte) {
		b := udpPacket(addrPort("10.0.0.1:4000"), addrPort("10.96.0.10:53"), slices.Concat(messages...))
		p.sendPacket(&inspect.Packet{Payload: b, Length: len(b), Merged: true})
	}
	runEvasions(t, []evasion{
		{name: "hello in two merged datagrams", want: "reject", play: func(p *player, name string) {
			f := quicFlow{p}
			a, b := halves(long(name))
			f.merged(f.seal(initial{frames: a}), f.seal(initial{number: 1, frames: b}))
		}},
		{name: "second of two merged hellos", want: "reject", play: func(p *player, name string) {
			f := quicFlow{p}
			f.merged(f.seal(initial{frames: plain(helloOf(allowedName))}),
				f.seal(initial{dcid: "abcdefgh", frames: plain(helloOf(name))}))
		}},
		{name: "first of two merged hellos", want: "reject", play: func(p *player, name string) {
			f := quicFlow{p}
			f.merged(f.seal(initial{frames: plain(helloOf(name))}),
				f.seal(initial{dcid: "abcdefgh", frames: plain(helloOf(allowedName))}))
		}},
		{name: "hello behind a padded datagram", want: "reject", play: func(p *player, name string) {
			f := quicFlow{p}
			first := initial{dcid: "12345678", frames: plain(helloOf(allowedName))}.seal(p.tb)
			first = append(first, make([]byte, 1200-len(first))...)
			f.merged(first, f.seal(initial{dcid: "abcdefgh", frames: plain(helloOf(name))}))
		}},
		{name: "second of two merged queries", want: "reject", play: func(p *player, name string) {
			merged(p, query(1, allowedName), query(2, name))
		}},
		{name: "query behind a padded one", want: "drop", always: true, play: func(p *player, name string) {
			merged(p, append(query(1, allowedName), 0, 0, 0, 0), append(query(2, name), 0, 0, 0, 0))
		}},
	})
}
