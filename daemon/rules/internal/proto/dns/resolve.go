// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"bytes"
	"errors"
	"net/netip"
)

// What Resolve reads of an answer, whatever its sender put there.
const (
	// MaxAddrs is how many addresses it returns.
	MaxAddrs = 100
	// MaxNames is how many names of a chain of CNAMEs it follows.
	MaxNames = 16

	maxRecords = 512
)

const (
	classIN     = 1
	rcodeNone   = 0
	opcodeQuery = 0
)

// A Resolution is what an answer says of one question.
type Resolution struct {
	// Names has the name that was asked for, and then those that CNAMEs lead to.
	// They are written as in a Question.
	Names [][]byte
	// Addrs has the addresses of the last name, in the order of the answer. IPv4 in
	// IPv6 is IPv4.
	Addrs []netip.Addr
	// TTL is the shortest time to live, in seconds, of all records that led to Addrs.
	TTL uint32
	// Cut is set where there were more names, addresses or records.
	Cut bool

	text []byte
}

// Resolve reads what an answer, which m has parsed, says of m.Questions[question].
// Records about names that the question does not lead to are left out. Where the
// sender truncated the answer, or the bytes end early, r has what is whole: some
// clients use it. An error comes with an empty r.
//
// The caller must know itself that somebody asked, and that the one who was asked
// has answered.
func (m *Message) Resolve(question int, r *Resolution) error {
	*r = Resolution{Names: r.Names[:0], Addrs: r.Addrs[:0], text: r.text[:0]}
	if !m.Response || m.answers == 0 || m.Opcode != opcodeQuery || m.RCode != rcodeNone ||
		question >= len(m.Questions) || m.Questions[question].Class != classIN {
		return nil
	}
	r.TTL = 1<<31 - 1
	r.Names = append(r.Names, m.Questions[question].Name)
	err := m.follow(r)
	if err == nil {
		err = m.eachAnswer(r, r.address)
	}
	if err != nil || len(r.Addrs) == 0 {
		r.TTL = 0
	}
	if err != nil {
		r.Names, r.Addrs = r.Names[:0], r.Addrs[:0]
	}
	return err
}

// follow adds the names that CNAMEs lead to. It walks again for each name that
// comes before the one that leads to it.
func (m *Message) follow(r *Resolution) error {
	for range MaxNames {
		before := len(r.Names)
		if err := m.eachAnswer(r, r.alias); err != nil {
			return err
		}
		if len(r.Names) == before {
			break
		}
	}
	return nil
}

// eachAnswer calls f for each record of the answer section whose class is IN.
func (m *Message) eachAnswer(r *Resolution, f func(b []byte, off int, rec record) error) error {
	off := m.answers
	for i := range int(m.counts[0]) {
		if i == maxRecords {
			r.Cut = true
			break
		}
		rec, err := readRecord(m.bytes, off)
		if errors.Is(err, ErrShort) {
			r.Cut = true
			break
		}
		if err == nil && rec.class == classIN {
			err = f(m.bytes, off, rec)
		}
		if err != nil {
			return err
		}
		off = rec.end
	}
	return nil
}

// alias takes the name that a CNAME gives to the last name.
func (r *Resolution) alias(b []byte, off int, rec record) error {
	if rec.kind != TypeCNAME {
		return nil
	}
	owner, err := r.owner(b, off)
	if err != nil || owner != len(r.Names)-1 {
		return err
	}
	start, end := len(r.text), 0
	if r.text, end, err = appendName(r.text, b, rec.data); err != nil {
		return err
	}
	if end != rec.end {
		return ErrMalformed
	}
	r.lead(start, rec.ttl)
	return nil
}

// lead takes the name at the end of r.text, unless it leads into a circle.
func (r *Resolution) lead(start int, ttl uint32) {
	name := r.text[start:len(r.text):len(r.text)]
	switch {
	case r.find(name) >= 0:
		r.text = r.text[:start]
	case len(r.Names) == MaxNames:
		r.text, r.Cut = r.text[:start], true
	default:
		r.Names = append(r.Names, name)
		r.TTL = min(r.TTL, lifetime(ttl))
	}
}

// address takes the address that a record gives to one of the names.
func (r *Resolution) address(b []byte, off int, rec record) error {
	length := 4
	switch rec.kind {
	case TypeA:
	case TypeAAAA:
		length = 16
	default:
		return nil
	}
	if rec.end-rec.data != length {
		return ErrMalformed
	}
	owner, err := r.owner(b, off)
	if err != nil || owner != len(r.Names)-1 {
		return err
	}
	if len(r.Addrs) == MaxAddrs {
		r.Cut = true
		return nil
	}
	addr, _ := netip.AddrFromSlice(b[rec.data:rec.end])
	r.Addrs = append(r.Addrs, addr.Unmap())
	r.TTL = min(r.TTL, lifetime(rec.ttl))
	return nil
}

// owner returns which of the names a record is about, or -1.
func (r *Resolution) owner(b []byte, off int) (int, error) {
	start := len(r.text)
	text, _, err := appendName(r.text, b, off)
	if err != nil {
		return -1, err
	}
	r.text = text[:start]
	return r.find(text[start:]), nil
}

func (r *Resolution) find(name []byte) int {
	for i := range r.Names {
		if bytes.Equal(r.Names[i], name) {
			return i
		}
	}
	return -1
}

// lifetime is a TTL as RFC 2181 reads it: one with the highest bit set is zero.
func lifetime(ttl uint32) uint32 {
	if ttl > 1<<31-1 {
		return 0
	}
	return ttl
}
