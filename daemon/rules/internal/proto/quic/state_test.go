// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"testing"
)

const (
	clientID = "client-1"
	firstID  = "first-id"
	serverID = "server-1"
	retryID  = "retry-id"
)

func versions() []uint32 { return []uint32{version1, version2} }

// One datagram; two in both orders; each datagram alone is undecided.
func TestHello(t *testing.T) {
	h := hello("a.blocked.example", 1800)
	small := hello("b.blocked.example", 300)
	for _, v := range versions() {
		one := sent{version: v, dcid: firstID, scid: clientID, payload: crypto(small, 0, 300), pad: 1162}.seal(t)
		a := sent{version: v, dcid: firstID, scid: clientID, payload: crypto(h, 0, 1100)}.seal(t)
		b := sent{version: v, dcid: firstID, scid: clientID, number: 1, payload: crypto(h, 1100, 1800), pad: 1100}.seal(t)
		o := new(Opener)
		feed(t, o.NewState(), feeding{datagram: one, want: Complete, hello: small})
		feed(t, o.NewState(), feeding{datagram: a, want: NeedMore}, feeding{datagram: b, want: Complete, hello: h})
		feed(t, o.NewState(), feeding{datagram: b, want: NeedMore}, feeding{datagram: a, want: Complete, hello: h})
	}
}

// CRYPTO frames in any order, in pieces, twice, with other frames between them.
func TestFrames(t *testing.T) {
	h := hello("a.blocked.example", 300)
	ack := []byte{frameACK, 9, 0, 1, 2, 0, 1}
	ackECN := []byte{frameACKECN, 9, 0, 0, 2, 1, 1, 1}
	closing := []byte{frameClose, 0x0a, 0, 3, 'b', 'y', 'e'}
	long := []byte{0x40, frameCrypto, 0x40, 0, 0x80, 0, 0, 4}
	for name, c := range map[string]struct {
		payload []byte
		want    Status
	}{
		"in order":       {join(crypto(h, 0, 100), crypto(h, 100, 300)), Complete},
		"reversed":       {join(crypto(h, 200, 300), crypto(h, 100, 200), crypto(h, 0, 100)), Complete},
		"overlapping":    {join(crypto(h, 0, 170), crypto(h, 100, 300), crypto(h, 50, 250)), Complete},
		"others between": {join(ack, crypto(h, 150, 300), []byte{0, 0, framePing}, ackECN, crypto(h, 0, 150), closing), Complete},
		"bytes singly":   {singly(h), Complete},
		"long integers":  {join(long, h[:4], crypto(h, 4, 300)), Complete},
		"more than one":  {join(crypto(h, 0, 300), crypto(hello("next", 400), 300, 400)), Complete},
		"gap":            {join(crypto(h, 0, 100), crypto(h, 101, 300)), NeedMore},
		"padding":        {make([]byte, 500), NeedMore},
		"no frame":       {nil, Malformed},
		"STREAM":         {[]byte{0x08, 0, 1, 2, 3}, Malformed},
		"close of 1-RTT": {[]byte{0x1d, 0, 0}, Malformed},
		"HANDSHAKE_DONE": {[]byte{0x1e}, Malformed},
		"length lies":    {[]byte{frameCrypto, 0, 0x41, 0, 1, 0}, Malformed},
		"endless ranges": {[]byte{frameACK, 9, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0}, Malformed},
		"half a close":   {[]byte{frameClose, 0, 0, 200, 1}, Malformed},
		"half a type":    {join(make([]byte, 19), []byte{0x40}), Malformed},
		"no ClientHello": {crypto([]byte{2, 0, 0, 1, 0}, 0, 5), Malformed},
		"bad, not begun": {join([]byte{0x08}, crypto(h, 0, 300)), Malformed},
		"bad, complete":  {join(crypto(h, 0, 300), []byte{0x08}), Complete},
		"partly other":   {join(crypto(h, 0, 290), crypto(hello("b.blocked.example", 300), 270, 300)), Conflict},
		"other bytes":    {join(crypto(h, 0, 300), crypto(hello("b.blocked.example", 300), 0, 300)), Conflict},
		"far away":       {[]byte{frameCrypto, 0x80, 1, 0, 0, 1, 0}, Limit},
		"very far away":  {[]byte{frameCrypto, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0}, Limit},
		"16 KiB":         {crypto([]byte{1, 0, 0x40, 0, 0}, 0, 5), Limit},
	} {
		s := new(Opener).NewState()
		got := s.Feed(sent{dcid: firstID, payload: c.payload, pad: 20 * min(1, len(c.payload))}.seal(t), true)
		if got != c.want {
			t.Errorf("%s: status %d, want %d", name, got, c.want)
		}
		if c.want == Complete && !bytes.Equal(s.Hello(), h) {
			t.Errorf("%s: hello %x", name, s.Hello())
		}
	}
}

// singly is a message in frames of one byte, the even ones first.
func singly(message []byte) (frames []byte) {
	for _, first := range []int{0, 1} {
		for i := first; i < len(message); i += 2 {
			frames = append(frames, crypto(message, i, i+1)...)
		}
	}
	return frames
}

// All Initial packets of a datagram count, also between packets of other kinds.
func TestCoalesced(t *testing.T) {
	h := hello("a.blocked.example", 600)
	for _, v := range versions() {
		a := sent{version: v, dcid: firstID, payload: crypto(h, 0, 300)}.seal(t)
		b := sent{version: v, dcid: firstID, number: 1, payload: crypto(h, 300, 600)}.seal(t)
		early := serverPacket(zeroRTT, v, firstID, "")
		o := new(Opener)
		feed(t, o.NewState(), feeding{datagram: join(a, b), want: Complete, hello: h})
		feed(t, o.NewState(), feeding{datagram: join(early, b, early, a, []byte{0x40, 1, 2}), want: Complete, hello: h})
		other := sent{version: v, dcid: "other-id", payload: crypto(h, 0, 600)}.seal(t)
		feed(t, o.NewState(), feeding{datagram: join(a, other), want: Conflict})
		feed(t, o.NewState(), feeding{datagram: early, want: Nothing})
	}
}

// After a Retry the keys come from the ID that it brought, with all of the hello
// or with its rest, whether the Retry was seen or not.
func TestRetry(t *testing.T) {
	h := hello("a.blocked.example", 600)
	for _, v := range versions() {
		a := sent{version: v, dcid: firstID, scid: clientID, payload: crypto(h, 0, 300)}.seal(t)
		again := sent{version: v, dcid: retryID, scid: clientID, token: "t", number: 1, payload: crypto(h, 0, 300)}.seal(t)
		rest := sent{version: v, dcid: retryID, scid: clientID, token: "t", number: 2, payload: crypto(h, 300, 600)}.seal(t)
		tail := sent{version: v, dcid: firstID, scid: clientID, payload: crypto(h, 300, 600)}.seal(t)
		changed := sent{version: v, dcid: retryID, scid: clientID, payload: crypto(hello("x", 600), 0, 600)}.seal(t)
		seen := feeding{datagram: serverPacket(retry, v, clientID, retryID), server: true, want: NeedMore}
		o := new(Opener)
		feed(t, o.NewState(), feeding{datagram: a, want: NeedMore}, seen,
			feeding{datagram: again, want: NeedMore}, feeding{datagram: rest, want: Complete, hello: h})
		feed(t, o.NewState(), feeding{datagram: a, want: NeedMore},
			feeding{datagram: again, want: NeedMore}, feeding{datagram: rest, want: Complete, hello: h})
		feed(t, o.NewState(), feeding{datagram: tail, want: NeedMore}, seen, feeding{datagram: changed, want: Conflict})
	}
}

// Once the server answered, the client sends to the server's ID with the keys of
// its own first one. The ID may be empty, and the answer may not be seen.
func TestServerID(t *testing.T) {
	h := hello("a.blocked.example", 600)
	for _, server := range []string{serverID, ""} {
		a := sent{dcid: firstID, scid: clientID, payload: crypto(h, 0, 300)}.seal(t)
		b := sent{dcid: server, scid: clientID, source: firstID, number: 1, payload: crypto(h, 300, 600)}.seal(t)
		answer := feeding{datagram: serverPacket(initial, version1, clientID, server), server: true, want: NeedMore}
		o := new(Opener)
		feed(t, o.NewState(), feeding{datagram: a, want: NeedMore}, answer, feeding{datagram: b, want: Complete, hello: h})
		feed(t, o.NewState(), feeding{datagram: a, want: NeedMore}, feeding{datagram: b, want: Complete, hello: h})
		feed(t, o.NewState(), feeding{datagram: b, want: Nothing})
	}
}

// The server changes to version 2 without a round trip (RFC 9368, 2.3).
func TestCompatibleVersion(t *testing.T) {
	h := hello("a.blocked.example", 600)
	feed(t, new(Opener).NewState(),
		feeding{datagram: sent{dcid: firstID, scid: clientID, payload: crypto(h, 0, 300)}.seal(t), want: NeedMore},
		feeding{datagram: serverPacket(initial, version2, clientID, serverID), server: true, want: NeedMore},
		feeding{datagram: sent{version: version2, dcid: serverID, source: firstID, number: 1, payload: crypto(h, 300, 600)}.seal(t), want: Complete, hello: h})
}

// Version Negotiation ends nothing: the client's next version counts, with the
// same connection ID and another hello.
func TestVersionNegotiation(t *testing.T) {
	h, second := hello("a.blocked.example", 300), hello("b.blocked.example", 300)
	negotiation := feeding{datagram: join(longHeader(initial, 0, clientID, firstID), []byte{0, 0, 0, 1}), server: true}
	unknown := feeding{datagram: join(longHeader(initial, 0x1a2a3a4a, firstID, clientID), make([]byte, 1100))}
	next := feeding{datagram: sent{dcid: firstID, scid: clientID, payload: crypto(second, 0, 300)}.seal(t), want: Complete, hello: second}
	feed(t, new(Opener).NewState(), unknown, negotiation, next)

	part := feeding{datagram: sent{version: version2, dcid: firstID, scid: clientID, payload: crypto(h, 0, 200)}.seal(t), want: NeedMore}
	negotiation.want = NeedMore
	feed(t, new(Opener).NewState(), part, negotiation, next)

	again := unknown
	again.want = Limit
	feed(t, new(Opener).NewState(), unknown, unknown, unknown, again, next)
}

// A retransmission with other bytes is a conflict, before and after the hello is
// complete. One with the same bytes is not.
func TestConflict(t *testing.T) {
	h, x := hello("a.blocked.example", 600), hello("b.blocked.example", 600)
	part := sent{dcid: firstID, payload: crypto(h, 500, 600)}.seal(t)
	whole := sent{dcid: firstID, number: 1, payload: crypto(h, 0, 600)}.seal(t)
	other := sent{dcid: firstID, number: 2, payload: crypto(x, 0, 600)}.seal(t)
	o := new(Opener)
	feed(t, o.NewState(), feeding{datagram: part, want: NeedMore}, feeding{datagram: other, want: Conflict},
		feeding{datagram: whole, want: Complete, hello: h}, feeding{datagram: other, want: Conflict, hello: h})
	feed(t, o.NewState(), feeding{datagram: whole, want: Complete}, feeding{datagram: whole, want: Complete, hello: h},
		feeding{datagram: other, want: Conflict, hello: h})
}

// Connections of one port are told apart, also when their packets are mixed.
func TestSeveralConnections(t *testing.T) {
	a, b := hello("a.blocked.example", 600), hello("b.allowed.example", 600)
	s := new(Opener).NewState()
	feed(t, s,
		feeding{datagram: sent{dcid: "conn-a", scid: clientID, payload: crypto(a, 0, 300)}.seal(t), want: NeedMore},
		feeding{datagram: sent{dcid: "conn-b", scid: "client-2", payload: crypto(b, 0, 600)}.seal(t), want: Complete, hello: b})
	if !s.Pending() {
		t.Error("the first connection is not pending")
	}
	feed(t, s, feeding{datagram: sent{dcid: "conn-a", scid: clientID, number: 1, payload: crypto(a, 300, 600)}.seal(t), want: Complete, hello: a})
	if s.Pending() {
		t.Error("pending, though both are complete")
	}
}

// What its receiver ignores does not hide what comes next.
func TestDecoys(t *testing.T) {
	h := hello("a.blocked.example", 300)
	good := feeding{datagram: sent{dcid: firstID, payload: crypto(h, 0, 300)}.seal(t), want: Complete, hello: h}
	unopened := sent{dcid: firstID, source: "else", payload: crypto(hello("x", 300), 0, 300)}.seal(t)
	malformed := sent{dcid: firstID, payload: []byte{0x08}, pad: 20}
	far := sent{dcid: firstID, number: 1000, short: 2, payload: crypto(h, 0, 100)}.seal(t)
	near := sent{dcid: firstID, short: 1, payload: crypto(h, 100, 300)}.seal(t)
	o := new(Opener)
	feed(t, o.NewState(), feeding{datagram: unopened, want: Nothing}, good)
	feed(t, o.NewState(), feeding{datagram: malformed.seal(t), want: Malformed}, good)
	feed(t, o.NewState(), feeding{datagram: far, want: NeedMore}, feeding{datagram: near, want: Complete, hello: h})
	for n := range good.datagram {
		feed(t, o.NewState(), feeding{datagram: good.datagram[:n], want: Nothing}, good)
	}
}

// Shortened packet numbers are relative to those before them.
func TestPacketNumbers(t *testing.T) {
	h := hello("a.blocked.example", 300)
	feed(t, new(Opener).NewState(),
		feeding{datagram: sent{dcid: firstID, number: 0xfe, short: 1, payload: crypto(h, 0, 100)}.seal(t), want: NeedMore},
		feeding{datagram: sent{dcid: firstID, number: 0x101, short: 1, payload: crypto(h, 100, 200)}.seal(t), want: NeedMore},
		feeding{datagram: sent{dcid: firstID, number: 0x10123, short: 2, payload: crypto(h, 200, 300), pad: 400}.seal(t), want: NeedMore},
		feeding{datagram: sent{dcid: firstID, number: 0xff, short: 1, payload: crypto(h, 200, 300)}.seal(t), want: Complete, hello: h})
}

// The first is the example of RFC 9000, A.3.
func TestLengthen(t *testing.T) {
	for _, c := range []struct {
		short    uint64
		size     int
		expected uint64
		want     uint64
	}{
		{0x9b32, 2, 0xa82f30eb, 0xa82f9b32},
		{0xff, 1, 0x102, 0xff},
		{0x01, 1, 0xff, 0x101},
		{0xff, 1, 0x02, 0xff},
		{0x80, 1, 0x100, 0x180},
		{0x81, 1, 0x100, 0x181 - 0x100},
		{0x12345678, 4, 0, 0x12345678},
	} {
		if got := lengthen(c.short, c.size, c.expected); got != c.want {
			t.Errorf("%x of %d bytes, %x expected: %x, want %x", c.short, c.size, c.expected, got, c.want)
		}
	}
}

// Merged datagrams are cut before each Initial packet, whatever is between them.
func TestSplit(t *testing.T) {
	a := sent{dcid: "12345678", payload: crypto(hello("a", 80), 0, 80), pad: 200}.seal(t)
	b := sent{dcid: "abcdefgh", payload: crypto(hello("b", 80), 0, 80), pad: 200}.seal(t)
	short := bytes.Repeat([]byte{0x40}, 50)
	for name, want := range map[string][][]byte{
		"empty": {nil}, "one": {a}, "two": {a, b}, "no packet": {short},
		"padding": {join(a, make([]byte, 100)), b}, "behind others": {short, a, b},
		"half": {join(a, b[:100])},
	} {
		var got [][]byte
		for rest := join(want...); len(rest) > 0 || got == nil; {
			var first []byte
			first, rest = Split(rest)
			got = append(got, first)
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d pieces, want %d", name, len(got), len(want))
			continue
		}
		for i := range got {
			if !bytes.Equal(got[i], want[i]) {
				t.Errorf("%s: piece %d has %d bytes, want %d", name, i, len(got[i]), len(want[i]))
			}
		}
	}
}
