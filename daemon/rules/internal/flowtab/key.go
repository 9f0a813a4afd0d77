// SPDX-License-Identifier: Apache-2.0

package flowtab

import (
	"crypto/rand"
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// Key identifies a flow: two ends, and the protocol between them. Both directions
// have the same key. It has 40 bytes.
type Key struct {
	low, high end
	rest      uint64 // port of low, port of high, protocol, family
}

// end is an address, as two numbers.
type end struct{ hi, lo uint64 }

// Side is one of the two ends of a key.
type Side bool

// The sides of a key. Which end is which says nothing of who opened the flow.
const (
	Low  Side = false
	High Side = true
)

const family4, family6 = 4, 6

// KeyOf returns the key of a packet's flow, and at which side its source is. An
// address of IPv4 in the form of IPv6 is one of IPv6: so it is on the wire.
func KeyOf(source, destination netip.Addr, sourcePort, destinationPort uint16,
	protocol uint8,
) (Key, Side) {
	family := uint64(family6)
	if source.Is4() {
		family = family4
	}
	s, d := endOf(source), endOf(destination)
	rest := uint64(protocol)<<8 | family
	if s.less(d) || s == d && sourcePort <= destinationPort {
		return Key{s, d, uint64(sourcePort)<<48 | uint64(destinationPort)<<32 | rest}, Low
	}
	return Key{d, s, uint64(destinationPort)<<48 | uint64(sourcePort)<<32 | rest}, High
}

func endOf(a netip.Addr) end {
	if a.Is4() {
		b := a.As4()
		return end{0, 0xffff<<32 | uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := a.As16()
	return end{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (e end) less(f end) bool {
	return e.hi < f.hi || e.hi == f.hi && e.lo < f.lo
}

// End returns the address and the port of one side.
func (k *Key) End(s Side) netip.AddrPort {
	e, port := k.low, uint16(k.rest>>48)
	if s == High {
		e, port = k.high, uint16(k.rest>>32)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], e.hi)
	binary.BigEndian.PutUint64(b[8:], e.lo)
	addr := netip.AddrFrom16(b)
	if uint8(k.rest) == family4 {
		addr = addr.Unmap()
	}
	return netip.AddrPortFrom(addr, port)
}

// Ports returns those of both sides, the low one first.
func (k *Key) Ports() (low, high uint16) { return uint16(k.rest >> 48), uint16(k.rest >> 32) }

// Protocol returns the IP protocol's number.
func (k *Key) Protocol() uint8 { return uint8(k.rest >> 8) }

// seed is what senders must not know, lest they choose keys with the same hash.
type seed [5]uint64

func newSeed() (s seed) {
	var b [8 * len(s)]byte
	_, _ = rand.Read(b[:]) // which never fails
	for i := range s {
		s[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return s
}

func (t *Table[U, F]) hash(k *Key) uint32 {
	s := &t.seed
	h := mix(k.low.hi^s[0], k.low.lo^s[1]) ^ mix(k.high.hi^s[2], k.high.lo^s[3])
	return uint32(mix(h^k.rest, s[4]|1) >> 32)
}

// mix folds the product of two numbers.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}
