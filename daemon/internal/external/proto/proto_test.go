// SPDX-License-Identifier: Apache-2.0

package proto

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHelloRoundTrip(t *testing.T) {
	want := Hello{
		Version: 1, InFlight: 2, Features: FeatureMemory, CopyRange: 256, Batch: 32, Name: "test",
	}
	got, err := ParseHello(want.Append(nil))
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

func TestWelcomeRoundTrip(t *testing.T) {
	want := Welcome{
		Version: 1, InFlight: 4, Features: 1, CopyRange: 99, Batch: 64, Queue: 80, Budget: 50000,
		MarkMask: 0xff000000, Attachments: 7, Memory: 1 << 24, Boot: [16]byte{1, 2, 3},
	}
	got, err := ParseWelcome(want.Append(nil))
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

// The bytes of the messages that each inspector sends are as the specification has them.
func TestLayout(t *testing.T) {
	for name, tt := range map[string]struct{ got, want []byte }{
		"HELLO": {
			(&Hello{Version: 1, InFlight: 4, Features: 1, CopyRange: 0x102, Batch: 64, Name: "x"}).
				Append(nil),
			[]byte{
				1, 0, 0, 0, 33, 0, 0, 0, 'n', 's', 'q', 'I', 1, 0, 4, 0,
				1, 0, 0, 0, 2, 1, 0, 0, 64, 0, 1, 0, 0, 0, 0, 0, 'x',
			},
		},
		"VERDICTS": {
			AppendVerdicts(nil, 0x0102, []Verdict{
				{ID: 3, Action: ActionReject, Mark: 0x01000000, MarkMask: 0xff000000},
			}),
			[]byte{
				6, 0, 0, 0, 32, 0, 0, 0, 2, 1, 0, 0, 1, 0, 0, 0,
				3, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0xff,
			},
		},
		"BYE": {
			AppendBye(nil, ReasonDone, "bye"),
			[]byte{7, 0, 0, 0, 19, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 'b', 'y', 'e'},
		},
	} {
		if !bytes.Equal(tt.got, tt.want) {
			t.Errorf("%s is % x, want % x", name, tt.got, tt.want)
		}
	}
}

// build makes a BATCH of these payloads.
func build(b *Builder, payloads ...[]byte) []byte {
	for i, p := range payloads {
		b.Add(&Header{ID: uint32(i), Length: uint32(len(p)), Flow: 5, Time: 6, InDev: 7}, p)
	}
	head, data := b.Message(1, 2)
	return append(bytes.Clone(head), data...)
}

func TestBatchRoundTrip(t *testing.T) {
	payloads := [][]byte{[]byte("a"), nil, bytes.Repeat([]byte("b"), 1500)}
	memory := make([]byte, 8192)
	for name, room := range map[string][]byte{"message": nil, "memory": memory[4096:]} {
		var b Builder
		b.Reset(MaxBatch, room, 4096)
		message := build(&b, payloads...)
		got, err := ParseBatch(message, memory)
		if err != nil || got.Sequence != 1 || got.Attachment != 2 || len(got.Headers) != 3 {
			t.Fatalf("%s: %+v, %v", name, got, err)
		}
		within := message
		if got.InMemory {
			within = memory
		}
		for i, h := range got.Headers {
			if p := within[h.Offset:][:h.Captured]; !bytes.Equal(p, payloads[i]) || h.Offset%8 != 0 ||
				h.ID != uint32(i) || h.Flow != 5 || h.Time != 6 || h.InDev != 7 {
				t.Errorf("%s, packet %d: %+v, % x", name, i, h, p)
			}
		}
	}
}

// A batch is never longer than a message may be, and has room for the largest packet.
func TestBatchIsBounded(t *testing.T) {
	var b Builder
	b.Reset(MaxBatch, nil, 0)
	if !b.Add(&Header{}, make([]byte, 1<<16)) {
		t.Error("an empty batch has no room for a packet")
	}
	for b.Add(&Header{}, make([]byte, 1499)) {
	}
	head, data := b.Message(1, 1)
	if n := len(head) + len(data); n > MaxMessage || n < MaxMessage-3000 {
		t.Errorf("the batch has %d bytes", n)
	}
	b.Reset(3, nil, 0)
	for b.Add(&Header{}, nil) {
	}
	if b.Count() != 3 {
		t.Errorf("%d packets, want 3", b.Count())
	}
}

// What is cut anywhere is refused.
func TestTruncated(t *testing.T) {
	var b Builder
	b.Reset(MaxBatch, nil, 0)
	for name, message := range map[string][]byte{
		"HELLO":    (&Hello{Version: 1, Name: "x"}).Append(nil),
		"WELCOME":  (&Welcome{}).Append(nil),
		"ATTACH":   AppendAttach(nil, 1, []byte("{}")),
		"DETACH":   AppendDetach(nil, 1),
		"BATCH":    build(&b, []byte("xyz")),
		"VERDICTS": AppendVerdicts(nil, 1, []Verdict{{}}),
		"BYE":      AppendBye(nil, 1, "text"),
	} {
		for n := range message {
			if read(message[:n]) {
				t.Errorf("%s of %d bytes is taken", name, n)
			}
		}
		if !read(message) {
			t.Errorf("%s is refused", name)
		}
	}
}

// read reports whether any reader takes the bytes.
func read(b []byte) bool {
	_, err1 := ParseHello(b)
	_, err2 := ParseWelcome(b)
	_, _, err3 := ParseAttach(b)
	_, err4 := ParseDetach(b)
	_, err5 := ParseBatch(b, nil)
	v, err6 := ParseVerdicts(b)
	if err6 == nil {
		for i := range v.Len() {
			v.At(i)
		}
	}
	_, _, err7 := ParseBye(b)
	for _, err := range []error{err1, err2, err3, err4, err5, err6, err7} {
		if err == nil {
			return true
		}
	}
	return false
}

func FuzzRead(f *testing.F) {
	var b Builder
	b.Reset(MaxBatch, nil, 0)
	f.Add((&Hello{Version: 1, Name: "x"}).Append(nil))
	f.Add((&Welcome{}).Append(nil))
	f.Add(AppendAttach(nil, 1, []byte("{}")))
	f.Add(build(&b, []byte("xyz"), nil))
	f.Add(AppendVerdicts(nil, 1, []Verdict{{ID: 1, Action: ActionDrop}}))
	f.Add(AppendBye(nil, 1, "text"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := ParseHello(b); err == nil {
			if again, err := ParseHello(h.Append(nil)); err != nil || again != h {
				t.Errorf("%+v becomes %+v, %v", h, again, err)
			}
		}
		if got, err := ParseBatch(b, nil); err == nil {
			for _, h := range got.Headers {
				_ = b[h.Offset:][:h.Captured]
			}
		}
		read(b)
	})
}
