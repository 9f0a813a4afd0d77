// SPDX-License-Identifier: Apache-2.0

// Package proto is the protocol that inspectors on sockets speak with the daemon, as
// docs/protocol.md specifies it: messages on a unix socket of the kind SOCK_SEQPACKET, each
// one record, little endian, of fixed layout. It reads and writes messages, and knows no
// sockets.
package proto

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Version is the version of the protocol.
const Version = 1

// Magic begins what HELLO and WELCOME say: nsqI.
const Magic = 0x4971736e

// The bounds.
const (
	// MaxMessage is how long a message is at most.
	MaxMessage = 128 << 10
	// MaxReceived is how long one from an inspector is.
	MaxReceived = verdictsSize + MaxBatch*verdictSize
	// MaxBatch is how many packets a batch has.
	MaxBatch = 64
	// MaxInFlight is how many batches of a queue wait for their verdicts.
	MaxInFlight = 4
	// MaxName is how many bytes the name of an inspector has.
	MaxName = 64
	// MaxReason is how many bytes the text of BYE has.
	MaxReason = 128
)

// Type is the kind of a message.
type Type uint16

// The kinds.
const (
	TypeHello    Type = 1
	TypeWelcome  Type = 2
	TypeAttach   Type = 3
	TypeDetach   Type = 4
	TypeBatch    Type = 5
	TypeVerdicts Type = 6
	TypeBye      Type = 7
)

// Sizes of what is fixed of messages.
const (
	headSize     = 8
	helloSize    = 32
	welcomeSize  = 64
	attachSize   = 16
	batchSize    = 24
	headerSize   = 64
	verdictsSize = 16
	verdictSize  = 16
	byeSize      = 16
)

// The features.
const (
	// FeatureMemory is that packets come in memory which both sides share.
	FeatureMemory = 1 << 0
	// FeatureQueues is that the inspector reads queues by itself, by sockets that come with
	// ATTACH.
	FeatureQueues = 1 << 1
)

// ErrMalformed is what is wrong with a message that breaks the protocol.
var ErrMalformed = errors.New("malformed message")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// TypeOf returns the kind of a message, which is a whole record.
func TypeOf(b []byte) (Type, error) {
	if len(b) < headSize || len(b) > MaxMessage {
		return 0, malformed("it has %d bytes", len(b))
	}
	if flags := binary.LittleEndian.Uint16(b[2:]); flags != 0 {
		return 0, malformed("it has flags %#x", flags)
	}
	if n := binary.LittleEndian.Uint32(b[4:]); n != uint32(len(b)) {
		return 0, malformed("it has %d bytes and says %d", len(b), n)
	}
	return Type(binary.LittleEndian.Uint16(b)), nil
}

// begin appends the head of a message, whose length finish writes.
func begin(b []byte, t Type) []byte {
	b = binary.LittleEndian.AppendUint16(b, uint16(t))
	return append(b, 0, 0, 0, 0, 0, 0)
}

func finish(b []byte) []byte {
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)))
	return b
}
