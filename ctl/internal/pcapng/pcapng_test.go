// SPDX-License-Identifier: Apache-2.0

package pcapng

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// golden is what the tests' section is, a block a paragraph.
const golden = `
0a0d0d0a 28000000 4d3c2b1a 01000000 ffffffff ffffffff
04000400 6e737131 00000000 28000000

01000000 34000000 65000000 00010000
02000500 612f706f 64000000 03000300 6f6e6500 09000100 09000000 00000000 34000000

06000000 3c000000 00000000 15cd5b07 b168de3a 05000000 64000000
45000102 03000000 02000400 01000000 01000200 6f6b0000 00000000 3c000000
`

func TestGolden(t *testing.T) {
	var b bytes.Buffer
	w, err := NewWriter(&b, "nsq1")
	if err != nil {
		t.Fatal(err)
	}
	n, err := w.AddInterface(Interface{Name: "a/pod", Description: "one", SnapLen: 256})
	if err != nil || n != 0 {
		t.Fatal(n, err)
	}
	err = w.WritePacket(&Packet{
		Time: time.Unix(0, 123456789<<32|0x3ade68b1), Data: []byte{0x45, 0, 1, 2, 3}, Length: 100,
		Direction: Inbound, Comment: "ok",
	})
	if err != nil {
		t.Fatal(err)
	}
	if w.Size() != int64(b.Len()) {
		t.Errorf("size %d, %d written", w.Size(), b.Len())
	}
	want := strings.Fields(golden)
	if diff := cmp.Diff(want, words(b.Bytes())); diff != "" {
		t.Errorf("section (-want +got):\n%s", diff)
	}
}

// words returns bytes as the golden has them.
func words(b []byte) []string {
	var words []string
	for len(b) > 0 {
		n := min(4, len(b))
		words = append(words, hex.EncodeToString(b[:n]))
		b = b[n:]
	}
	return words
}

func TestRefused(t *testing.T) {
	var b bytes.Buffer
	w, err := NewWriter(&b, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.WritePacket(&Packet{}); err == nil {
		t.Error("a packet of no interface was written")
	}
	if _, err := w.AddInterface(Interface{Name: strings.Repeat("x", maxOption+1)}); err == nil {
		t.Error("a name that does not fit was written")
	}
	if n, err := w.AddInterface(Interface{Name: strings.Repeat("x", maxOption)}); err != nil || n != 0 {
		t.Error(n, err)
	}
	blocks(t, b.Bytes())
}

// failing fails at each write.
type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestWriteFails(t *testing.T) {
	full := errors.New("disk full")
	if _, err := NewWriter(failing{full}, "p"); !errors.Is(err, full) {
		t.Errorf("%v, want %v", err, full)
	}
}

// blocks walks over what was written, as a reader does, and returns how many
// blocks there are.
func blocks(t *testing.T, b []byte) (n int) {
	t.Helper()
	for ; len(b) > 0; n++ {
		if len(b) < 12 {
			t.Fatalf("%d bytes are left", len(b))
		}
		length := int(binary.LittleEndian.Uint32(b[4:]))
		if length%4 != 0 || length < 12 || length > len(b) ||
			int(binary.LittleEndian.Uint32(b[length-4:])) != length {
			t.Fatalf("block of %d bytes, of %d", length, len(b))
		}
		b = b[length:]
	}
	return n
}

// Whatever pods are called and packets are, a reader finds the blocks.
func FuzzBlocks(f *testing.F) {
	f.Add("pod", "verdict: accept", []byte{0x45}, 60)
	f.Add("", "", []byte{}, -1)
	f.Fuzz(func(t *testing.T, name, comment string, data []byte, length int) {
		var b bytes.Buffer
		w, err := NewWriter(&b, name)
		if err != nil {
			return
		}
		if _, err := w.AddInterface(Interface{Name: name}); err != nil {
			t.Fatal(err)
		}
		want := 3
		if err := w.WritePacket(&Packet{Data: data, Length: length, Comment: comment}); err != nil {
			want = 2
		}
		if n := blocks(t, b.Bytes()); n != want {
			t.Errorf("%d blocks, want %d", n, want)
		}
	})
}
