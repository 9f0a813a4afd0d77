// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
)

// The salts of Initial secrets (RFC 9001, 5.2; RFC 9369, 3.3.1).
const (
	salt1 = "\x38\x76\x2c\xf7\xf5\x59\x34\xb3\x4d\x17\x9a\xe6\xa4\xc8\x0c\xad\xcc\xbb\x7f\x0a"
	salt2 = "\x0d\xed\xe3\xde\xf7\x00\xa6\xdb\x81\x93\x81\xbe\x6e\x26\x9d\xcb\xf9\xbd\x2e\xd9"
)

const (
	keyLen   = 16
	nonceLen = 12
)

// id is a connection ID.
type id struct {
	length uint8
	bytes  [maxID]byte
}

// newID copies a connection ID; b has at most maxID bytes.
func newID(b []byte) (c id) {
	c.length = uint8(copy(c.bytes[:], b))
	return c
}

// keys are those of a client's Initial packets.
type keys struct {
	version uint32
	source  id // the connection ID that they come from
	aead    cipher.AEAD
	header  cipher.Block
	iv      [nonceLen]byte
}

// secrets are what keys are made of.
type secrets struct {
	key, header [keyLen]byte
	iv          [nonceLen]byte
}

// derive derives the client's secrets from a connection ID.
func (s *secrets) derive(version uint32, source id) {
	salt, key, iv, header := salt1, "quic key", "quic iv", "quic hp"
	if version == version2 {
		salt, key, iv, header = salt2, "quicv2 key", "quicv2 iv", "quicv2 hp"
	}
	common := mac([]byte(salt), source.bytes[:source.length])
	client := expand(&common, "client in", sha256.Size)
	b := expand(&client, key, keyLen)
	copy(s.key[:], b[:])
	b = expand(&client, iv, nonceLen)
	copy(s.iv[:], b[:])
	b = expand(&client, header, keyLen)
	copy(s.header[:], b[:])
}

// set makes k the keys of the secrets. It returns false if the build of the
// program does not permit the ciphers.
func (k *keys) set(s *secrets) bool {
	block, err := aes.NewCipher(s.key[:])
	if err != nil {
		return false
	}
	if k.aead, err = cipher.NewGCM(block); err != nil {
		return false
	}
	k.header, err = aes.NewCipher(s.header[:])
	k.iv = s.iv
	return err == nil
}

// expand is HKDF-Expand-Label of TLS 1.3 with SHA-256, for up to 32 bytes.
func expand(secret *[sha256.Size]byte, label string, length byte) [sha256.Size]byte {
	var info [64]byte
	b := append(info[:0], 0, length, byte(len("tls13 ")+len(label)))
	b = append(append(b, "tls13 "...), label...)
	b = append(b, 0, 1) // no context, the first block
	return mac(secret[:], b)
}

// mac is HMAC-SHA-256 of up to 64 bytes under a key of up to 64 bytes. Unlike
// crypto/hmac it allocates nothing.
func mac(key, message []byte) [sha256.Size]byte {
	var inner [2 * sha256.BlockSize]byte
	var outer [sha256.BlockSize + sha256.Size]byte
	copy(inner[:], key)
	copy(outer[:], key)
	for i := range sha256.BlockSize {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	n := sha256.BlockSize + copy(inner[sha256.BlockSize:], message)
	sum := sha256.Sum256(inner[:n])
	copy(outer[sha256.BlockSize:], sum[:])
	return sha256.Sum256(outer[:])
}
