// SPDX-License-Identifier: Apache-2.0

package flowtab

import (
	"math/bits"
	"slices"
	"unsafe"

	"github.com/nsqueue/nsqueue/daemon/rules/internal/budget"
)

// A chunk is small, because most pods have few flows.
const (
	chunkLen  = 8
	chunkFull = 1<<chunkLen - 1
)

// slab holds values at numbers that do not change. It takes the lowest free place,
// so that the upper chunks get empty and can go. Its memory is counted.
type slab[T any] struct {
	account *budget.Account
	chunks  []*[chunkLen]T
	used    []uint8  // a bit for each place of a chunk
	room    []uint64 // a bit for each chunk that exists and is not full
	lowest  int      // no word of room before this one has a bit
	exist   int      // chunks that are not nil
	empty   int      // of them, those without a value
	count   int
}

func (s *slab[T]) chunkSize() int {
	var chunk [chunkLen]T
	return int(unsafe.Sizeof(chunk))
}

func (s *slab[T]) at(i uint32) *T {
	return &s.chunks[i/chunkLen][i%chunkLen]
}

// add returns the number of a zero value, or false if the account has no memory.
func (s *slab[T]) add() (uint32, bool) {
	c, ok := s.firstRoom()
	if !ok {
		if c, ok = s.grow(); !ok {
			return 0, false
		}
	}
	if s.used[c] == 0 {
		s.empty--
	}
	place := bits.TrailingZeros8(^s.used[c])
	s.used[c] |= 1 << place
	if s.used[c] == chunkFull {
		s.room[c/64] &^= 1 << (c % 64)
	}
	s.count++
	return uint32(c*chunkLen + place), true
}

func (s *slab[T]) firstRoom() (int, bool) {
	for ; s.lowest < len(s.room); s.lowest++ {
		if word := s.room[s.lowest]; word != 0 {
			return s.lowest*64 + bits.TrailingZeros64(word), true
		}
	}
	return 0, false
}

// hasRoom notes that a chunk has a free place.
func (s *slab[T]) hasRoom(c int) {
	s.room[c/64] |= 1 << (c % 64)
	s.lowest = min(s.lowest, c/64)
}

// grow makes the first chunk that does not exist.
func (s *slab[T]) grow() (int, bool) {
	if !s.account.Take(s.chunkSize()) {
		return 0, false
	}
	c := len(s.chunks)
	if s.exist < c {
		c = slices.Index(s.chunks, nil)
	} else {
		s.chunks, s.used = append(s.chunks, nil), append(s.used, 0)
		if c/64 == len(s.room) {
			s.room = append(s.room, 0)
		}
	}
	s.chunks[c] = new([chunkLen]T)
	s.hasRoom(c)
	s.exist++
	s.empty++
	return c, true
}

// remove leaves a zero value behind.
func (s *slab[T]) remove(i uint32) {
	var zero T
	*s.at(i) = zero
	c := int(i / chunkLen)
	s.used[c] &^= 1 << (i % chunkLen)
	s.hasRoom(c)
	if s.used[c] == 0 {
		s.empty++
	}
	s.count--
}

// next returns the number of the first value at i or behind it.
func (s *slab[T]) next(i uint32) (uint32, bool) {
	first := i % chunkLen
	for c := int(i / chunkLen); c < len(s.used); c++ {
		if rest := s.used[c] >> first; rest != 0 {
			return uint32(c)*chunkLen + first + uint32(bits.TrailingZeros8(rest)), true
		}
		first = 0
	}
	return 0, false
}

// trim gives empty chunks back, the upper ones first, until keep are left.
func (s *slab[T]) trim(keep int) {
	for c := len(s.chunks) - 1; c >= 0 && s.empty > keep; c-- {
		if s.chunks[c] == nil || s.used[c] != 0 {
			continue
		}
		s.chunks[c] = nil
		s.room[c/64] &^= 1 << (c % 64)
		s.exist--
		s.empty--
		s.account.Give(s.chunkSize())
	}
	for last := len(s.chunks) - 1; last >= 0 && s.chunks[last] == nil; last-- {
		s.chunks, s.used = s.chunks[:last], s.used[:last]
	}
	s.room = s.room[:(len(s.chunks)+63)/64]
}
