// SPDX-License-Identifier: Apache-2.0

package proto

import "encoding/binary"

// AppendAttach appends an ATTACH: the number of an attachment, and what it is as JSON.
func AppendAttach(b []byte, number uint32, json []byte) []byte {
	b = begin(b[:0], TypeAttach)
	b = binary.LittleEndian.AppendUint32(b, number)
	b = binary.LittleEndian.AppendUint32(b, 0)
	return finish(append(b, json...))
}

// ParseAttach reads an ATTACH.
func ParseAttach(b []byte) (number uint32, json []byte, err error) {
	if t, err := TypeOf(b); err != nil || t != TypeAttach || len(b) < attachSize {
		return 0, nil, malformed("want ATTACH")
	}
	return binary.LittleEndian.Uint32(b[8:]), b[attachSize:], nil
}

// AppendDetach appends a DETACH.
func AppendDetach(b []byte, number uint32) []byte {
	b = begin(b[:0], TypeDetach)
	b = binary.LittleEndian.AppendUint32(b, number)
	return finish(binary.LittleEndian.AppendUint32(b, 0))
}

// ParseDetach reads a DETACH.
func ParseDetach(b []byte) (number uint32, err error) {
	if t, err := TypeOf(b); err != nil || t != TypeDetach || len(b) < attachSize {
		return 0, malformed("want DETACH")
	}
	return binary.LittleEndian.Uint32(b[8:]), nil
}

// Reason is why a side says BYE.
type Reason uint32

// The reasons.
const (
	ReasonDone      Reason = 0 // it ends, or starts again
	ReasonVersion   Reason = 1 // it speaks no version of the other side
	ReasonMalformed Reason = 2 // the other side broke the protocol
	ReasonReplaced  Reason = 3 // another inspector has taken the place of one that stalled
)

// AppendBye appends a BYE with a text for people.
func AppendBye(b []byte, reason Reason, text string) []byte {
	b = begin(b[:0], TypeBye)
	b = binary.LittleEndian.AppendUint32(b, uint32(reason))
	b = binary.LittleEndian.AppendUint32(b, 0)
	return finish(append(b, text[:min(len(text), MaxReason)]...))
}

// ParseBye reads a BYE. Its text may have any bytes.
func ParseBye(b []byte) (Reason, string, error) {
	if t, err := TypeOf(b); err != nil || t != TypeBye || len(b) < byeSize ||
		len(b) > byeSize+MaxReason {
		return 0, "", malformed("want BYE")
	}
	return Reason(binary.LittleEndian.Uint32(b[8:])), string(b[byeSize:]), nil
}
