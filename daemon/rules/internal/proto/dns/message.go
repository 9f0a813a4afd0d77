// SPDX-License-Identifier: Apache-2.0

// Package dns reads DNS messages, of UDP and TCP (RFC 1035, RFC 6891). It starts
// nothing and keeps nothing: all that it finds is in storage of the caller, which
// may use one Message and one Resolution for all packets that it reads.
package dns

import (
	"encoding/binary"
	"errors"
)

// Errors of Parse and Resolve.
var (
	// ErrMalformed says that the message is not what RFC 1035 allows.
	ErrMalformed = errors.New("malformed DNS message")
	// ErrShort says that the bytes end before the message does. Without more bytes
	// to come, it is malformed as well.
	ErrShort = errors.New("short DNS message")
	// ErrLimit says that the message has more questions than MaxQuestions.
	ErrLimit = errors.New("too many questions in a DNS message")
)

// MaxQuestions is how many questions of a message are read. Servers answer
// messages with one.
const MaxQuestions = 16

const (
	headerLen   = 12
	recordLen   = 10 // type, class, TTL and length, after the owner's name
	questionLen = 4  // type and class, after the name
)

// A Question is one entry of a message's question section.
type Question struct {
	// Name is in lower case and without the final dot; the root is empty. Bytes
	// that are no visible ASCII, and dots and backslashes within a label, are
	// escaped as in zone files (`\.`, `\000`), so that two names never look alike.
	Name  []byte
	Type  uint16
	Class uint16
}

// A Message is what Parse found. Its names are valid until the next Parse.
type Message struct {
	ID        uint16
	Opcode    uint8
	RCode     uint16 // with the upper bits that EDNS adds
	Response  bool
	Truncated bool // the sender left something out
	EDNS      bool
	UDPSize   uint16 // what the sender takes, of EDNS
	Questions []Question

	bytes   []byte
	text    []byte
	end     int // where the last record ends; 0 if it was not reached
	answers int // where the answer section starts; 0 if it was not reached
	counts  [3]uint16
}

// Parse reads the header, all questions and EDNS of a message, and checks that
// all records are within it. Where it returns an error, m still has everything
// before the fault: with the questions whole, a rule can judge a message whose
// other records are broken. m refers to b afterwards.
//
// Parse allocates nothing once m has read a message as large.
func (m *Message) Parse(b []byte) error {
	*m = Message{Questions: m.Questions[:0], text: m.text[:0], bytes: b}
	if len(b) < headerLen {
		return ErrShort
	}
	flags := binary.BigEndian.Uint16(b[2:])
	m.ID = binary.BigEndian.Uint16(b)
	m.Response = flags&0x8000 != 0
	m.Opcode = uint8(flags >> 11 & 0xf)
	m.Truncated = flags&0x0200 != 0
	m.RCode = flags & 0xf
	for i := range m.counts {
		m.counts[i] = binary.BigEndian.Uint16(b[6+2*i:])
	}
	off, err := m.questions(int(binary.BigEndian.Uint16(b[4:])))
	if err != nil {
		return err
	}
	m.answers = off
	return m.records(off)
}

// questions reads n questions, and returns where they end.
func (m *Message) questions(n int) (off int, err error) {
	off = headerLen
	for range n {
		if len(m.Questions) == MaxQuestions {
			return 0, ErrLimit
		}
		start := len(m.text)
		if m.text, off, err = appendName(m.text, m.bytes, off); err != nil {
			return 0, err
		}
		if len(m.bytes)-off < questionLen {
			return 0, ErrShort
		}
		m.Questions = append(m.Questions, Question{
			Name:  m.text[start:len(m.text):len(m.text)],
			Type:  binary.BigEndian.Uint16(m.bytes[off:]),
			Class: binary.BigEndian.Uint16(m.bytes[off+2:]),
		})
		off += questionLen
	}
	return off, nil
}

// records walks over all records, which must end where the message does.
func (m *Message) records(off int) error {
	for section, n := range m.counts {
		for range n {
			r, err := readRecord(m.bytes, off)
			if err != nil {
				return err
			}
			if r.kind == TypeOPT {
				if section != 2 || m.EDNS || m.bytes[off] != 0 {
					return ErrMalformed
				}
				m.EDNS, m.UDPSize = true, r.class
				m.RCode |= uint16(r.ttl>>24) << 4
			}
			off = r.end
		}
	}
	m.end = off
	if off != len(m.bytes) {
		return ErrMalformed
	}
	return nil
}

// Asked reports whether all questions were read.
func (m *Message) Asked() bool { return m.answers > 0 }

// End returns where the message ends, or 0 if it does not. Bytes behind it are malformed,
// unless they are of another message.
func (m *Message) End() int { return m.end }

// Key appends what an answer must have in common with the query: the ID, and all
// questions.
func (m *Message) Key(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, m.ID)
	for i := range m.Questions {
		q := &m.Questions[i]
		b = binary.BigEndian.AppendUint16(b, q.Type)
		b = binary.BigEndian.AppendUint16(b, q.Class)
		b = append(append(b, q.Name...), 0)
	}
	return b
}

// A record is where a resource record has its parts.
type record struct {
	kind, class uint16
	ttl         uint32
	data, end   int // offsets in the message
}

func readRecord(b []byte, off int) (record, error) {
	off, err := skipName(b, off)
	if err != nil {
		return record{}, err
	}
	if len(b)-off < recordLen {
		return record{}, ErrShort
	}
	r := record{
		kind:  binary.BigEndian.Uint16(b[off:]),
		class: binary.BigEndian.Uint16(b[off+2:]),
		ttl:   binary.BigEndian.Uint32(b[off+4:]),
		data:  off + recordLen,
	}
	r.end = r.data + int(binary.BigEndian.Uint16(b[off+8:]))
	if r.end > len(b) {
		return record{}, ErrShort
	}
	return r, nil
}
