// SPDX-License-Identifier: Apache-2.0

// Command holder is an inspector that reads queues by sockets which nsqueued hands out. It
// accepts all packets, and marks them so that a rule in the pod can tell which it has seen.
package main

import (
	"encoding/binary"
	"encoding/json"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/test/damage/load"
)

// Messages of the protocol, and what is used of them.
const (
	hello, welcome, attach, detach = 1, 2, 3, 4
	readsQueues                    = 1 << 1
)

// Messages of the kernel.
const (
	subsystem             = unix.NFNL_SUBSYS_QUEUE << 8
	packet                = subsystem
	verdict               = subsystem | 1
	configure             = subsystem | 2
	attrHeader, attrMark  = 1, 3
	attrVerdict           = 2
	attrCommand, attrMode = 1, 2
	bindQueue, copyPacket = 1, 2
	nlHeader, nfHeader    = 16, 4
)

func main() {
	for ; ; <-time.After(10 * time.Millisecond) {
		serve(os.Args[1])
	}
}

// serve reads queues while a connection lasts.
func serve(path string) {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return
	}
	defer c.Close()
	h := make([]byte, 32)
	copy(h, []byte{hello, 0, 0, 0, 32, 0, 0, 0, 'n', 's', 'q', 'I', 1})
	h[16] = readsQueues
	if _, err := c.Write(h); err != nil {
		return
	}
	queue, sockets := uint16(0), make(map[uint32]*os.File)
	defer func() {
		for _, f := range sockets {
			_ = f.Close()
		}
	}()
	m, oob := make([]byte, 128<<10), make([]byte, 64)
	for {
		n, on, _, _, err := c.ReadMsgUnix(m, oob)
		if err != nil || n < 16 {
			return
		}
		switch number := binary.LittleEndian.Uint32(m[8:]); binary.LittleEndian.Uint16(m) {
		case welcome:
			queue = binary.LittleEndian.Uint16(m[26:])
		case attach:
			if !json.Valid(m[16:n]) {
				return
			}
			sockets[number] = received(oob[:on])
			go read(sockets[number], queue)
		case detach:
			_ = sockets[number].Close()
			delete(sockets, number)
		}
	}
}

// received returns the socket that came with a message.
func received(oob []byte) *os.File {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) == 0 {
		panic("no socket came with ATTACH")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err == nil {
		err = unix.SetNonblock(fds[0], true) // so that its end ends reading
	}
	if err != nil {
		panic(err)
	}
	return os.NewFile(uintptr(fds[0]), "queue")
}

// read binds the queue, and answers its packets until the socket ends.
func read(f *os.File, queue uint16) {
	send(f, message(configure, queue, attribute(attrCommand, []byte{bindQueue, 0, 0, 0})))
	send(f, message(configure, queue, attribute(attrMode, []byte{0, 0, 0xff, 0xff, copyPacket})))
	buf := make([]byte, 1<<17)
	for {
		n, err := f.Read(buf)
		if err != nil {
			return
		}
		if n < nlHeader+nfHeader || binary.NativeEndian.Uint16(buf[4:]) != packet {
			continue
		}
		for b := buf[nlHeader+nfHeader : n]; len(b) >= 8; {
			length := int(binary.NativeEndian.Uint16(b))
			if binary.NativeEndian.Uint16(b[2:]) == attrHeader {
				send(f, message(verdict, queue, accept(b[4:8]), mark()))
				break
			}
			b = b[min((length+3)&^3, len(b)):]
		}
	}
}

func accept(id []byte) []byte {
	const accepts = 1
	return attribute(attrVerdict, append([]byte{0, 0, 0, accepts}, id...))
}

func mark() []byte { return attribute(attrMark, binary.BigEndian.AppendUint32(nil, load.Mark)) }

func attribute(kind uint16, value []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	b = append(binary.NativeEndian.AppendUint16(b, kind), value...)
	return append(b, make([]byte, -len(b)&3)...)
}

// message is one for the kernel about the queue.
func message(kind, queue uint16, attributes ...[]byte) []byte {
	b := make([]byte, nlHeader, 64)
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST)
	b = binary.BigEndian.AppendUint16(append(b, unix.AF_UNSPEC, 0), queue)
	for _, a := range attributes {
		b = append(b, a...)
	}
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	return b
}

// send gives the kernel a message; what waits no more is not answered.
func send(f *os.File, b []byte) { _, _ = f.Write(b) }
