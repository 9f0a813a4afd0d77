// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
)

// header appends a header with the given flags and counts.
func header(flags uint16, counts ...uint16) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0, 7}, flags)
	for i := range 4 {
		n := uint16(0)
		if i < len(counts) {
			n = counts[i]
		}
		b = binary.BigEndian.AppendUint16(b, n)
	}
	return b
}

// wire is a name's bytes, without compression.
func wire(name string) string {
	var b strings.Builder
	for label := range strings.SplitSeq(name, ".") {
		if label != "" {
			b.WriteByte(byte(len(label)))
			b.WriteString(label)
		}
	}
	return b.String() + "\x00"
}

// question appends a question of class IN to the bytes of a name.
func question(name string, kind uint16) string {
	return name + string([]byte{byte(kind >> 8), byte(kind), 0, 1})
}

// answer is a record of class IN.
func answer(owner string, kind uint16, ttl uint32, data string) string {
	b := []byte(owner)
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint16(b, classIN)
	b = binary.BigEndian.AppendUint32(b, ttl)
	b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
	return string(b) + data
}

func query(name string) []byte {
	return append(header(0x0100, 1), question(wire(name), TypeA)...)
}

func decode(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// names joins a message's questions.
func names(m *Message) string {
	var all []string
	for _, q := range m.Questions {
		all = append(all, string(q.Name)+" "+TypeName(q.Type))
	}
	return strings.Join(all, ", ")
}

// overlap is a message whose second question is a pointer into the first one. The
// label there reaches over the pointer into the record that follows.
func overlap() []byte {
	b := append(header(0, 2, 0, 0, 1), question("\x02\x10a\x00", TypeA)+question("\xc0\x0d", TypeA)...)
	return append(b, "\x00\x00\x29\x04\x00\x00\x00\x00\x00\x00\x00"...)
}
