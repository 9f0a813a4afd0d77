// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"slices"
	"testing"
)

func TestRecognise(t *testing.T) {
	for name, c := range map[string]struct {
		bytes string
		want  Answer
	}{
		"version 1":          {"\xc3\x00\x00\x00\x01\x08", Yes},
		"without 0x40":       {"\x83\x00\x00\x00\x01\x08", Yes},
		"version 2":          {"\xd3\x6b\x33\x43\xcf\x14", Yes},
		"draft":              {"\xc3\xff\x00\x00\x1d\x08", Yes},
		"reserved":           {"\xc3\x1a\x2a\x3a\xfa\x08", Yes},
		"nothing":            {"", Undecided},
		"one byte":           {"\xc0", Undecided},
		"half a version":     {"\xc0\x6b\x33", Undecided},
		"no ID length":       {"\xc0\x00\x00\x00\x01", Undecided},
		"short header":       {"\x43\x00\x00\x00\x01\x08", No},
		"negotiation":        {"\xc3\x00\x00\x00\x00\x08", No},
		"long ID":            {"\xc3\x00\x00\x00\x01\x15", No},
		"another half":       {"\xc0\x6b\x34", No},
		"RTP":                {"\x80\x60\x12\x34\x00\x00", No},
		"a question of DNS":  {"\x8f\x00\x01\x00\x00\x01", No},
		"DTLS":               {"\x16\xfe\xfd\x00\x00\x00", No},
		"reserved, but once": {"\xc3\x1a\x2a\x3a\xfb\x08", No},
	} {
		if got := Recognise([]byte(c.bytes)); got != c.want {
			t.Errorf("%s: answer %d, want %d", name, got, c.want)
		}
	}
}

// An answer does not change with more bytes, and whole datagrams have one.
func FuzzRecognise(f *testing.F) {
	f.Add([]byte("\xc3\x00\x00\x00\x01\x08"))
	f.Add([]byte("\xd3\x6b\x33\x43\xcf\x14"))
	f.Fuzz(func(t *testing.T, b []byte) {
		last := Undecided
		for n := range len(b) + 1 {
			got := Recognise(b[:n:n])
			if last != Undecided && got != last {
				t.Errorf("%x: from %d to %d", b[:n], last, got)
			}
			last = got
		}
		if len(b) >= 6 && last == Undecided {
			t.Errorf("%x: unsure", b)
		}
	})
}

// A state takes any datagrams of either side: the first byte has a bit for each
// of up to eight that says who sent it, and the second the length of all but the
// last.
func FuzzFeed(f *testing.F) {
	for _, name := range []string{"rfc9001-client-initial.hex", "rfc9369-client-initial.hex", "capture-v1-two-datagrams.hex"} {
		f.Add(join(append([][]byte{{0, 0xff}}, readHex(f, name)...)...))
	}
	f.Add(join([]byte{2, 40}, serverPacket(retry, version1, clientID, retryID), serverPacket(initial, version2, "", "")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 2 {
			return
		}
		s := new(Opener).NewState()
		size, server, rest := int(b[1])*8, b[0], b[2:]
		for range 8 {
			n := min(len(rest), size)
			status := s.Feed(rest[:n:n], server&1 == 0)
			if s.Hello() == nil && status == Complete {
				t.Error("complete without a hello")
			}
			server, rest = server>>1, rest[n:]
		}
		s.Feed(slices.Clip(rest), true)
	})
}

// Frames fill a stream as a list of values would: the hello is there when all of
// its bytes are, and has the values that came first.
func FuzzFrames(f *testing.F) {
	h := hello("a.blocked.example", 300)
	f.Add(singly(h), 0)
	f.Add(join(crypto(h, 200, 300), []byte{0, 0, framePing}, crypto(h, 0, 201)), 110)
	f.Add([]byte{frameACK, 9, 0, 1, 2, 0, 1, frameClose, 0, 0, 0}, 3)
	f.Fuzz(func(t *testing.T, b []byte, split int) {
		split = min(max(split, 0), len(b))
		var s stream
		values := make(map[int]byte)
		for _, payload := range [][]byte{b[:split], b[split:]} {
			status := s.frames(payload, maxCrypto)
			if conflict := !fill(values, payload); conflict != (status == Conflict) {
				t.Fatalf("status %d, conflict %v", status, conflict)
			}
			if status == Conflict {
				return
			}
		}
		if s.status() != Complete {
			return
		}
		for i, got := range s.bytes[:s.size()] {
			if want, ok := values[i]; !ok || got != want {
				t.Fatalf("byte %d: %d, want %d (%v)", i, got, want, ok)
			}
		}
	})
}

// fill notes the values of a packet's CRYPTO frames, up to what is malformed. It
// returns false at a conflict.
func fill(values map[int]byte, payload []byte) bool {
	var other stream
	r := reader{b: payload}
	for r.at < len(payload) {
		start := r.at
		if r.varint() != frameCrypto {
			r.at, r.bad = start, false
			if other.frame(&r, maxCrypto) == Malformed {
				return true
			}
			continue
		}
		offset := r.varint()
		data := r.take(r.varint())
		if r.bad {
			return true
		}
		if offset+uint64(len(data)) > maxCrypto || offset > maxCrypto {
			continue
		}
		for i, v := range data {
			at := int(offset) + i
			if old, ok := values[at]; ok && old != v {
				return false
			}
			values[at] = v
		}
		if first, ok := values[0]; ok && first != clientHello {
			return true
		}
	}
	return true
}
