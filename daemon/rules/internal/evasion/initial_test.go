// SPDX-License-Identifier: Apache-2.0

package evasion

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"testing"
)

const (
	quic1 = 0x00000001
	quic2 = 0x6b3343cf
)

// initial is an Initial packet of QUIC that a client sends (RFC 9000, 9001, 9369).
type initial struct {
	version uint32 // 1 where it is 0
	dcid    string
	keys    string // the connection ID that they are made of; dcid where it is empty
	token   string
	number  byte
	frames  []byte
	size    int  // of the packet at least
	greased bool // its fixed bit is clear
}

func (p initial) seal(tb testing.TB) []byte {
	tb.Helper()
	if p.version == 0 {
		p.version = quic1
	}
	if p.keys == "" {
		p.keys = p.dcid
	}
	for len(p.frames)+60 < p.size {
		p.frames = append(p.frames, 0)
	}
	b := longHeader(0, p.version, p.dcid, "scid")
	if p.greased {
		b[0] &^= 0x40
	}
	b = append(append(varint(b, len(p.token)), p.token...), varint(nil, 1+len(p.frames)+16)...)
	at := len(b)
	b = append(b, p.number)
	key, iv, mask := keys(tb, p.version, p.keys)
	iv[11] ^= p.number
	aead, err := cipher.NewGCM(key)
	must(tb, err)
	b = append(b, aead.Seal(nil, iv, p.frames, b)...)
	sample := make([]byte, 16)
	mask.Encrypt(sample, b[at+4:at+20])
	b[0] ^= sample[0] & 0x0f
	b[at] ^= sample[1]
	return b
}

// longHeader is a header up to the connection IDs, of a kind as version 1 numbers them.
func longHeader(kind byte, version uint32, dcid, scid string) []byte {
	if version == quic2 {
		kind = (kind + 1) & 3
	}
	b := binary.BigEndian.AppendUint32([]byte{0xc0 | kind<<4}, version)
	b = append(b, vec8([]byte(dcid)...)...)
	return append(b, vec8([]byte(scid)...)...)
}

func keys(tb testing.TB, version uint32, dcid string) (key cipher.Block, iv []byte, mask cipher.Block) {
	tb.Helper()
	salt, prefix := "38762cf7f55934b34d179ae6a4c80cadccbb7f0a", "quic "
	if version == quic2 {
		salt, prefix = "0dede3def700a6db819381be6e269dcbf9bd2ed9", "quicv2 "
	}
	bytes, err := hex.DecodeString(salt)
	must(tb, err)
	secret, err := hkdf.Extract(sha256.New, []byte(dcid), bytes)
	must(tb, err)
	secret = expand(tb, secret, "client in", 32)
	key, err = aes.NewCipher(expand(tb, secret, prefix+"key", 16))
	must(tb, err)
	mask, err = aes.NewCipher(expand(tb, secret, prefix+"hp", 16))
	must(tb, err)
	return key, expand(tb, secret, prefix+"iv", 12), mask
}

func expand(tb testing.TB, secret []byte, label string, length int) []byte {
	tb.Helper()
	label = "tls13 " + label
	info := string([]byte{0, byte(length), byte(len(label))}) + label + "\x00"
	b, err := hkdf.Expand(sha256.New, secret, info, length)
	must(tb, err)
	return b
}

func varint(b []byte, v int) []byte {
	if v < 1<<6 {
		return append(b, byte(v))
	}
	return binary.BigEndian.AppendUint16(b, uint16(v)|1<<14)
}

// cryptoFrame has a part of a message.
func cryptoFrame(message []byte, from, to int) []byte {
	b := varint([]byte{6}, from)
	return append(varint(b, to-from), message[from:to]...)
}

// plain are the frames of a whole message.
func plain(message []byte) []byte { return cryptoFrame(message, 0, len(message)) }

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
