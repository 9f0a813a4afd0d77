// SPDX-License-Identifier: Apache-2.0

package dns

// DefaultMessage is how much of a message Stream keeps where its Buffer has no
// capacity: a header and MaxQuestions of the longest names.
const DefaultMessage = headerLen + MaxQuestions*(maxName+questionLen)

const prefixLen = 2

// A Stream cuts one direction of a TCP connection into messages. The zero value
// starts at the connection's first byte.
type Stream struct {
	// Buffer keeps a message that is not complete. Its capacity, which the caller
	// may give it at the start, is the most that is kept of one.
	Buffer []byte

	prefix [prefixLen]byte
	have   int // bytes of the prefix
	left   int // bytes of the message that are to come
	skip   bool
}

// Next takes bytes of the connection, in order, and returns the first message that
// they complete, without its length. It returns what follows that message; the
// caller calls it again until rest is empty. ok is false where no message is
// complete. The message is valid until the next call.
//
// A message that is larger than Buffer, and comes in several pieces, is returned
// when Buffer is full: Parse finds its questions there, and says ErrShort. Cut is true
// then, and Next leaves the rest of it out.
func (s *Stream) Next(b []byte) (message, rest []byte, ok bool) {
	for len(b) > 0 {
		if s.have < prefixLen {
			b = s.length(b)
			if s.have < prefixLen || s.left > 0 {
				continue
			}
			s.have = 0
			return nil, b, true
		}
		piece := b[:min(s.left, len(b))]
		b = b[len(piece):]
		if message, ok = s.take(piece); ok {
			return message, b, true
		}
	}
	return nil, nil, false
}

// length reads a byte of the length.
func (s *Stream) length(b []byte) []byte {
	s.prefix[s.have] = b[0]
	s.have++
	s.left, s.skip = int(s.prefix[0])<<8|int(s.prefix[1]), false
	s.Buffer = s.Buffer[:0]
	return b[1:]
}

// take takes a piece of the message, and returns the message if it is complete or
// the buffer is full.
func (s *Stream) take(piece []byte) (message []byte, ok bool) {
	s.left -= len(piece)
	if s.left == 0 {
		s.have = 0
	}
	switch {
	case s.skip:
		return nil, false
	case s.left == 0 && len(s.Buffer) == 0:
		return piece, true
	}
	if cap(s.Buffer) == 0 {
		s.Buffer = make([]byte, 0, DefaultMessage)
	}
	room := cap(s.Buffer) - len(s.Buffer)
	s.Buffer = append(s.Buffer, piece[:min(room, len(piece))]...)
	s.skip = len(s.Buffer) == cap(s.Buffer)
	return s.Buffer, s.left == 0 || s.skip
}

// Cut reports whether the message that Next has just returned goes on.
func (s *Stream) Cut() bool { return s.skip && s.left > 0 }

// InMessage reports whether the stream has a part of a message that Next has not
// returned.
func (s *Stream) InMessage() bool { return s.have > 0 && !s.skip }

// Idle reports whether the stream is between two messages, with nothing to keep.
func (s *Stream) Idle() bool { return s.have == 0 }
