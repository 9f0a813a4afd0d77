// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"os"
	"strings"
	"testing"
)

// sent is a packet that a test sends. Its keys are derived by crypto/hkdf.
type sent struct {
	version    uint32 // 1 where it is 0
	dcid, scid string
	source     string // of the keys; dcid where it is empty
	token      string
	number     uint64
	short      int // bytes of the packet number; 4 where it is 0
	payload    []byte
	pad        int // to so many bytes of payload
}

func (p sent) seal(t testing.TB) []byte {
	t.Helper()
	if p.version == 0 {
		p.version = version1
	}
	if p.short == 0 {
		p.short = 4
	}
	if p.source == "" {
		p.source = p.dcid
	}
	for len(p.payload) < p.pad {
		p.payload = append(p.payload, 0)
	}
	b := longHeader(initial, p.version, p.dcid, p.scid)
	b[0] |= byte(p.short - 1)
	b = append(appendVarint(b, uint64(len(p.token))), p.token...)
	b = appendVarint(b, uint64(p.short+len(p.payload)+16))
	at := len(b)
	number := binary.BigEndian.AppendUint64(nil, p.number)
	b = append(b, number[8-p.short:]...)

	key, iv, header := testKeys(t, p.version, p.source)
	for i, n := range number {
		iv[4+i] ^= n
	}
	sealed := gcm(t, key).Seal(nil, iv, p.payload, b)
	mask := make([]byte, 16)
	b = append(b, sealed...)
	block(t, header).Encrypt(mask, b[at+4:at+20])
	b[0] ^= mask[0] & 0x0f
	for i := range p.short {
		b[at+i] ^= mask[1+i]
	}
	return b
}

// longHeader is a header up to the connection IDs.
func longHeader(k kind, version uint32, dcid, scid string) []byte {
	bits := byte(k)
	if version == version2 {
		bits = (bits + 1) & 3
	}
	b := binary.BigEndian.AppendUint32([]byte{0xc0 | bits<<4}, version)
	b = append(append(b, byte(len(dcid))), dcid...)
	return append(append(b, byte(len(scid))), scid...)
}

// serverPacket is a packet that the server sends. Nobody opens it.
func serverPacket(k kind, version uint32, dcid, scid string) []byte {
	b := longHeader(k, version, dcid, scid)
	switch k {
	case retry:
		return append(b, "token and a tag of 16"...)
	case initial:
		b = append(b, 0)
	}
	return append(appendVarint(b, 100), make([]byte, 100)...)
}

func testKeys(t testing.TB, version uint32, source string) (key, iv, header []byte) {
	t.Helper()
	salt, prefix := salt1, "quic "
	if version == version2 {
		salt, prefix = salt2, "quicv2 "
	}
	common, err := hkdf.Extract(sha256.New, []byte(source), []byte(salt))
	if err != nil {
		t.Fatal(err)
	}
	client := expandLabel(t, common, "client in", 32)
	return expandLabel(t, client, prefix+"key", 16), expandLabel(t, client, prefix+"iv", 12),
		expandLabel(t, client, prefix+"hp", 16)
}

func expandLabel(t testing.TB, secret []byte, label string, length int) []byte {
	t.Helper()
	label = "tls13 " + label
	info := string([]byte{0, byte(length), byte(len(label))}) + label + "\x00"
	b, err := hkdf.Expand(sha256.New, secret, info, length)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func block(t testing.TB, key []byte) cipher.Block {
	t.Helper()
	b, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func gcm(t testing.TB, key []byte) cipher.AEAD {
	t.Helper()
	a, err := cipher.NewGCM(block(t, key))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func appendVarint(b []byte, v uint64) []byte {
	switch {
	case v < 1<<6:
		return append(b, byte(v))
	case v < 1<<14:
		return binary.BigEndian.AppendUint16(b, uint16(v)|1<<14)
	case v < 1<<30:
		return binary.BigEndian.AppendUint32(b, uint32(v)|2<<30)
	}
	return binary.BigEndian.AppendUint64(b, v|3<<62)
}

// crypto is a CRYPTO frame with a part of a message.
func crypto(message []byte, from, to int) []byte {
	b := appendVarint([]byte{frameCrypto}, uint64(from))
	return append(appendVarint(b, uint64(to-from)), message[from:to]...)
}

// hello is a ClientHello as far as this package knows one, of size bytes.
func hello(name string, size int) []byte {
	b := []byte{clientHello, 0, byte((size - 4) >> 8), byte(size - 4)}
	for len(b)+len(name) < size {
		b = append(b, byte(len(b)*7))
	}
	return append(b, name...)
}

// readHex reads the datagrams of a file, which empty lines separate.
func readHex(t testing.TB, name string) (datagrams [][]byte) {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	for part := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n\n") {
		datagrams = append(datagrams, unhex(t, strings.ReplaceAll(part, "\n", "")))
	}
	return datagrams
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// feeding is a datagram that a test feeds, and what must come of it.
type feeding struct {
	datagram []byte
	server   bool
	want     Status
	hello    []byte // where the hello must be complete
}

func feed(t *testing.T, s *State, steps ...feeding) {
	t.Helper()
	for i, step := range steps {
		before := bytes.Clone(step.datagram)
		if got := s.Feed(step.datagram, !step.server); got != step.want {
			t.Errorf("datagram %d: status %d, want %d", i, got, step.want)
		}
		if !bytes.Equal(step.datagram, before) {
			t.Errorf("datagram %d: was changed", i)
		}
		if step.hello != nil && !bytes.Equal(s.Hello(), step.hello) {
			t.Errorf("datagram %d: hello %x, want %x", i, s.Hello(), step.hello)
		}
	}
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
