// SPDX-License-Identifier: Apache-2.0

package tls

import "encoding/binary"

// MaxStream is how many bytes of a stream may be needed for a ClientHello, with
// the headers of its records.
const MaxStream = 16 << 10

// Records and handshake messages (RFC 8446, sections 4 and 5.1).
const (
	recordChange    = 20
	recordAlert     = 21
	recordHandshake = 22
	recordHeaderLen = 5
	maxRecordLen    = 1 << 14

	// RFC 8446 tells servers to ignore a record's version. Some look at it a
	// little: the most lenient of them wants a major version below 16.
	maxMajor = 15

	alertLen     = 2
	alertWarning = 1
	alertFatal   = 2
	changeLen    = 1
	changeValue  = 1

	messageClientHello = 1
	messageHeaderLen   = 4
)

// Status is how far a ClientHello has come.
type Status uint8

// More bytes are needed; the ClientHello is complete; no server would take the
// bytes; or the ClientHello needs more bytes than [MaxStream].
const (
	More Status = iota
	Complete
	Malformed
	Limit
)

// Joiner finds the ClientHello in a stream of records. It remembers which records
// it has seen, so that a stream that comes in small pieces costs no more than one
// that comes at once. The zero Joiner is at the start of a stream.
type Joiner struct {
	at   int // where the first record begins that is not counted yet
	have int // bytes of handshake in the records before
	end  int
	head [messageHeaderLen]byte // the first of these bytes
}

// Join looks for the ClientHello in a stream, of which the caller gives all bytes
// since its start. Where the answer is Complete, the message with its header is
// returned. It points into the stream if it is in one record, and else into
// scratch, which needs a capacity of [MaxStream]: with less, Join allocates.
//
// Warnings and changes of ciphers are skipped: servers do so, too. Bytes behind
// the ClientHello are not looked at.
func (j *Joiner) Join(stream, scratch []byte) ([]byte, Status) {
	stream = stream[:min(len(stream), MaxStream)]
	for j.at < len(stream) {
		r, s := readRecord(stream[j.at:])
		if s == Complete && r.kind == recordHandshake {
			var size int
			if size, s = j.count(&r); s == Complete {
				j.end = j.at + recordHeaderLen + r.length
				return j.gather(stream, scratch, r.body, size), Complete
			}
		} else if s == Complete {
			s = r.skip()
		}
		if s != More {
			return nil, s
		}
		if !r.whole() {
			break
		}
		j.pass(&r)
	}
	if len(stream) == MaxStream {
		return nil, Limit
	}
	return nil, More
}

// End returns where in the stream the last record of the ClientHello ends, which
// may be behind the bytes that have come. It holds after Join said Complete. A
// second ClientHello, if the server asks for one, comes later than that, and
// another Joiner finds it.
func (j *Joiner) End() int { return j.end }

// count returns the size of the message, and whether it is complete with what has
// come of record r.
func (j *Joiner) count(r *record) (int, Status) {
	head := j.head
	if j.have < len(head) {
		copy(head[j.have:], r.body)
	}
	return messageSize(head[:min(len(head), j.have+len(r.body))], j.have+len(r.body))
}

// pass counts a record that has come as a whole.
func (j *Joiner) pass(r *record) {
	if r.kind == recordHandshake {
		if j.have < len(j.head) {
			copy(j.head[j.have:], r.body)
		}
		j.have += r.length
	}
	j.at += recordHeaderLen + r.length
}

// gather returns the message. The body is what has come of the record at j.at,
// its last one.
func (j *Joiner) gather(stream, scratch, body []byte, size int) []byte {
	if j.have == 0 {
		return body[:size:size]
	}
	joined := scratch[:0]
	for at := 0; at < j.at; {
		r, _ := readRecord(stream[at:])
		if r.kind == recordHandshake {
			joined = append(joined, r.body...)
		}
		at += recordHeaderLen + r.length
	}
	return append(joined, body[:size-j.have]...)
}

// messageSize returns how long a handshake message is by its header, of which
// head is what has come, and whether its bytes so far are all.
func messageSize(head []byte, have int) (int, Status) {
	if len(head) > 0 && head[0] != messageClientHello {
		return 0, Malformed
	}
	if len(head) < messageHeaderLen {
		return 0, More
	}
	size := messageHeaderLen + int(binary.BigEndian.Uint32(head)&0xffffff)
	switch {
	case size > MaxStream:
		return 0, Limit
	case have < size:
		return size, More
	}
	return size, Complete
}

// record is one record, as far as it has come.
type record struct {
	kind   byte
	length int
	body   []byte
}

func (r *record) whole() bool { return len(r.body) == r.length && r.length > 0 }

// skip returns Malformed for a record that cannot be before a ClientHello.
func (r *record) skip() Status {
	length, value := changeLen, byte(changeValue)
	if r.kind == recordAlert {
		length, value = alertLen, alertWarning
	}
	if r.length != length || len(r.body) > 0 && r.body[0] != value {
		return Malformed
	}
	return More
}

func knownRecord(kind byte) bool { return kind >= recordChange && kind <= recordHandshake }

// readRecord reads the record at the start of b, which is not empty. Its header
// has come if the answer is Complete.
func readRecord(b []byte) (record, Status) {
	if !knownRecord(b[0]) || len(b) > 1 && b[1] > maxMajor {
		return record{}, Malformed
	}
	if len(b) < recordHeaderLen {
		return record{}, More
	}
	r := record{kind: b[0], length: int(binary.BigEndian.Uint16(b[3:]))}
	if r.length == 0 || r.length > maxRecordLen {
		return record{}, Malformed
	}
	r.body = b[recordHeaderLen:min(recordHeaderLen+r.length, len(b))]
	return r, Complete
}
