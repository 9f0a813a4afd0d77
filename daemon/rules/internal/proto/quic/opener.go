// SPDX-License-Identifier: Apache-2.0

package quic

import "slices"

// cachedKeys is how many connections' keys an opener remembers.
const cachedKeys = 8

// Opener decrypts packets. It holds what the states of one goroutine need only
// while they work: a buffer for one packet, and the keys that were derived last.
// The zero value is ready to use. One goroutine may use it at a time.
type Opener struct {
	cache   [cachedKeys]keys
	next    int // the place in the cache to use next
	secrets secrets
	packet  []byte
	mask    [16]byte
	nonce   [nonceLen]byte
}

// NewState returns the memory of a flow, which works with the opener.
func (o *Opener) NewState() *State { return &State{opener: o} }

// open returns what is in an Initial packet and its number. The keys come from
// source. numbers are those of the connection's packets so far: the sender may
// have shortened this packet's number relative to one of them, or to none, since
// nobody knows which of them arrived. The result is valid until the next call.
func (o *Opener) open(p *packet, source id, numbers []uint64) ([]byte, uint64, bool) {
	k := o.keys(p.version, source)
	if k == nil {
		return nil, 0, false
	}
	at, short, ok := o.unprotect(p, k)
	if !ok {
		return nil, 0, false
	}
	size := at - p.numberAt
	for _, last := range slices.Backward(numbers) {
		number := lengthen(short, size, last+1)
		if plain, ok := o.decrypt(p, k, at, number); ok {
			return plain, number, true
		}
	}
	plain, ok := o.decrypt(p, k, at, short)
	return plain, short, ok
}

// keys returns the keys of a connection ID, or nil if there can be none.
func (o *Opener) keys(version uint32, source id) *keys {
	for i := range o.cache {
		k := &o.cache[i]
		if k.version == version && k.source == source {
			return k
		}
	}
	k := &o.cache[o.next]
	o.next = (o.next + 1) % cachedKeys
	o.secrets.derive(version, source)
	k.version, k.source = version, source
	if !k.set(&o.secrets) {
		k.version = 0
		return nil
	}
	return k
}

// unprotect copies a packet and removes its header protection (RFC 9001, 5.4).
// It returns where the ciphertext starts and the shortened packet number.
func (o *Opener) unprotect(p *packet, k *keys) (at int, short uint64, ok bool) {
	sample := p.numberAt + 4
	if len(p.bytes) < sample+len(o.mask) {
		return 0, 0, false
	}
	k.header.Encrypt(o.mask[:], p.bytes[sample:sample+len(o.mask)])
	o.packet = append(o.packet[:0], p.bytes...)
	o.packet[0] ^= o.mask[0] & 0x0f
	at = p.numberAt + int(o.packet[0]&3) + 1
	for i := p.numberAt; i < at; i++ {
		o.packet[i] ^= o.mask[1+i-p.numberAt]
		short = short<<8 | uint64(o.packet[i])
	}
	return at, short, true
}

// decrypt decrypts the copied packet in place. It fetches the ciphertext anew,
// because a failure erases it.
func (o *Opener) decrypt(p *packet, k *keys, at int, number uint64) ([]byte, bool) {
	o.nonce = k.iv
	for i := range 8 {
		o.nonce[nonceLen-1-i] ^= byte(number >> (8 * i))
	}
	sealed := o.packet[at:]
	copy(sealed, p.bytes[at:])
	plain, err := k.aead.Open(sealed[:0], o.nonce[:], sealed, o.packet[:at])
	return plain, err == nil
}

// lengthen completes a shortened packet number of size bytes to the number that
// is nearest to the expected one (RFC 9000, 17.1).
func lengthen(short uint64, size int, expected uint64) uint64 {
	window := uint64(1) << (8 * size)
	number := expected&^(window-1) | short
	switch {
	case number+window/2 <= expected:
		return number + window
	case number > expected+window/2 && number >= window:
		return number - window
	}
	return number
}
