// SPDX-License-Identifier: Apache-2.0

package nri

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// One socket carries two streams of bytes, cut into frames: the plugin serves on one, and
// the runtime on the other. Each stream has ttrpc messages.
const (
	ofPlugin  = 1
	ofRuntime = 2
	streams   = 3

	frameHeader   = 8  // stream, length
	messageHeader = 10 // length, call, kind, flags
	// maxMessage is the most that the protocol allows, of a message without its header.
	maxMessage = 4 << 20
)

// The kinds of messages.
const (
	request  = 1
	response = 2
)

// message is one of ttrpc's. Data is valid until the next one is read.
type message struct {
	stream uint32
	call   uint32
	kind   byte
	data   []byte
}

var errMessage = errors.New("the runtime has sent what is no message of the interface")

// reader reads messages of both streams.
type reader struct {
	from *bufio.Reader
	// partial are the bytes of each stream that belong to no whole message so far.
	partial [streams][]byte
	// last is the stream of the message that was read last, and taken its size.
	last  uint32
	taken int
}

func newReader(from io.Reader) *reader { return &reader{from: bufio.NewReader(from)} }

// next returns the next message. After an error there is none.
func (r *reader) next() (message, error) {
	r.partial[r.last] = r.partial[r.last][r.taken:]
	r.taken = 0
	for {
		if m, size, err := parse(r.partial[r.last]); size > 0 || err != nil {
			m.stream, r.taken = r.last, size
			return m, err
		}
		if err := r.fill(); err != nil {
			return message{}, err
		}
	}
}

// fill adds one frame to its stream.
func (r *reader) fill() error {
	var head [frameHeader]byte
	if _, err := io.ReadFull(r.from, head[:]); err != nil {
		return err
	}
	stream := binary.BigEndian.Uint32(head[:])
	length := binary.BigEndian.Uint32(head[4:])
	if length > messageHeader+maxMessage {
		return fmt.Errorf("%w: a frame of %d bytes", errMessage, length)
	}
	if stream != ofPlugin && stream != ofRuntime {
		_, err := r.from.Discard(int(length))
		return err
	}
	partial := r.partial[stream]
	if len(partial)+int(length) > 2*(messageHeader+maxMessage) {
		return fmt.Errorf("%w: too much at once", errMessage)
	}
	r.last = stream
	begin := len(partial)
	partial = append(partial, make([]byte, length)...)
	r.partial[stream] = partial
	_, err := io.ReadFull(r.from, partial[begin:])
	return err
}

// parse returns the message at the beginning of b, and its size with the header; 0 if it is
// not whole.
func parse(b []byte) (m message, size int, err error) {
	if len(b) < messageHeader {
		return message{}, 0, nil
	}
	length := binary.BigEndian.Uint32(b)
	if length > maxMessage {
		return message{}, 0, fmt.Errorf("%w: %d bytes", errMessage, length)
	}
	size = messageHeader + int(length)
	if len(b) < size {
		return message{}, 0, nil
	}
	return message{
		call: binary.BigEndian.Uint32(b[4:]), kind: b[8], data: b[messageHeader:size],
	}, size, nil
}

// frame returns the bytes of a message, in one frame. Runtimes read a frame at once, so
// that it must be short, as all are that a plugin of this kind sends.
func frame(m *message) []byte {
	b := make([]byte, 0, frameHeader+messageHeader+len(m.data))
	b = binary.BigEndian.AppendUint32(b, m.stream)
	b = binary.BigEndian.AppendUint32(b, uint32(messageHeader+len(m.data)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.data)))
	b = binary.BigEndian.AppendUint32(b, m.call)
	b = append(b, m.kind, 0)
	return append(b, m.data...)
}
