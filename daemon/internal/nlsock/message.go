// SPDX-License-Identifier: Apache-2.0

package nlsock

import (
	"encoding/binary"
	"errors"
	"iter"

	"golang.org/x/sys/unix"
)

// NetfilterHeaderLen is the length of what the bodies of netfilter's messages begin
// with (struct nfgenmsg).
const NetfilterHeaderLen = 4

var errMalformed = errors.New("malformed netlink message")

// Header is what a message begins with, but for its length and the sender's port,
// which the kernel knows.
type Header struct {
	Type, Flags uint16
	Sequence    uint32
}

// Append appends a message with this body, padded so that another one may follow.
func (h Header) Append(b, body []byte) []byte {
	b = binary.NativeEndian.AppendUint32(b, uint32(unix.SizeofNlMsghdr+len(body)))
	b = binary.NativeEndian.AppendUint16(b, h.Type)
	b = binary.NativeEndian.AppendUint16(b, h.Flags)
	b = binary.NativeEndian.AppendUint32(b, h.Sequence)
	b = append(b, 0, 0, 0, 0)
	b = append(b, body...)
	return append(b, make([]byte, align(len(body))-len(body))...)
}

// AppendNetfilterHeader appends the header of a body: its address family and what
// the subsystem says that the message is about.
func AppendNetfilterHeader(b []byte, family byte, resource uint16) []byte {
	return binary.BigEndian.AppendUint16(append(b, family, unix.NFNETLINK_V0), resource)
}

// Message is a message as it was received. Its body is only valid until the next one
// is received.
type Message struct {
	Header
	Body []byte
}

// Messages splits what was received at once into messages. A malformed one is the
// last.
func Messages(b []byte) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		for len(b) > 0 {
			m, length, err := parse(b)
			if !yield(m, err) || err != nil {
				return
			}
			b = b[min(align(length), len(b)):]
		}
	}
}

// parse reads the message that b begins with.
func parse(b []byte) (m Message, length int, err error) {
	if len(b) < unix.SizeofNlMsghdr {
		return Message{}, 0, errMalformed
	}
	length = int(binary.NativeEndian.Uint32(b))
	if length < unix.SizeofNlMsghdr || length > len(b) {
		return Message{}, 0, errMalformed
	}
	m.Type = binary.NativeEndian.Uint16(b[4:])
	m.Flags = binary.NativeEndian.Uint16(b[6:])
	m.Sequence = binary.NativeEndian.Uint32(b[8:])
	m.Body = b[unix.SizeofNlMsghdr:length]
	return m, length, nil
}

// Errno returns the error that the body of an NLMSG_ERROR or NLMSG_DONE begins with,
// a [unix.Errno], and nil where that is an acknowledgement.
func Errno(body []byte) error {
	if len(body) < 4 {
		return errMalformed
	}
	if code := int32(binary.NativeEndian.Uint32(body)); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

// align rounds up to netlink's alignment.
func align(length int) int { return (length + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }
