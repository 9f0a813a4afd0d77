// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"

	"golang.org/x/sys/unix"
)

// outbox has messages that the socket had no room for, in order.
type outbox struct {
	messages []message
	controls int           // of them
	wake     chan struct{} // there are some
}

// message is a batch, or another message.
type message struct {
	batch   *batch
	control []byte
}

// maxControls is how many messages about attachments wait for an inspector that reads none.
const maxControls = 4096

// sendLocked sends a message, now or when there is room.
func (l *link) sendLocked(m message) {
	if len(l.outbox.messages) == 0 {
		err := l.try(m)
		switch {
		case err == nil:
			return
		case !errors.Is(err, unix.EAGAIN):
			l.hangUp()
			return
		}
	}
	l.outbox.messages = append(l.outbox.messages, m)
	if m.batch == nil {
		if l.outbox.controls++; l.outbox.controls > maxControls {
			l.hangUp()
		}
	}
	select {
	case l.outbox.wake <- struct{}{}:
	default:
	}
}

// hangUp has the goroutine that receives find the connection closed. It closes the link:
// the caller may be a reader of packets, which waits for nothing.
func (l *link) hangUp() { _ = l.raw.Control(shutdown) }

func shutdown(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) }

// try gives a message to the socket if that has room for it.
func (l *link) try(m message) error {
	err := unix.ENOTCONN
	_ = l.raw.Control(func(fd uintptr) { err = l.put(int(fd), m) })
	if err == 0 {
		return nil
	}
	return err
}

// put gives a message to the socket.
func (l *link) put(fd int, m message) unix.Errno {
	head, data := m.control, []byte(nil)
	if m.batch != nil {
		head, data = m.batch.builder.Message(m.batch.sequence, m.batch.attachment)
	}
	errno := sendParts(fd, head, data)
	if errno == 0 && m.batch != nil {
		m.batch.isSent = true
		l.server.counters.batches.Add(1)
		l.server.counters.packets.Add(uint64(m.batch.builder.Count()))
	}
	return errno
}

// drainOutbox sends what waits, whenever there is room, until the link ends.
func (l *link) drainOutbox() {
	for {
		select {
		case <-l.ended:
			return
		case <-l.outbox.wake:
		}
		if l.raw.Write(l.drain) != nil { // closed
			return
		}
	}
}

// drain reports whether nothing is left to wait for.
func (l *link) drain(fd uintptr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.closed && len(l.outbox.messages) > 0 {
		m := l.outbox.messages[0]
		switch errno := l.put(int(fd), m); errno {
		case 0:
		case unix.EAGAIN:
			return false
		default:
			shutdown(fd)
			return true
		}
		l.outbox.remove(0)
	}
	return true
}

func (o *outbox) remove(i int) {
	if o.messages[i].batch == nil {
		o.controls--
	}
	n := copy(o.messages[i:], o.messages[i+1:])
	o.messages[i+n] = message{}
	o.messages = o.messages[:i+n]
}

// withdraw takes out a batch that was not sent.
func (o *outbox) withdraw(b *batch) {
	for i := range o.messages {
		if o.messages[i].batch == b {
			o.remove(i)
			return
		}
	}
}
