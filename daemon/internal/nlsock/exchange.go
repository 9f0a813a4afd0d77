// SPDX-License-Identifier: Apache-2.0

package nlsock

import (
	"errors"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/internal/fdcontrol"
)

// buffer is what the kernel fills at most at a time.
type buffer [32 << 10]byte

// Buffers lends sockets what they receive into, so that an idle one has none. The
// zero value is ready; it may be used concurrently.
type Buffers struct{ pool sync.Pool }

func (b *Buffers) acquire() *buffer {
	if b == nil {
		return new(buffer)
	}
	if buf, ok := b.pool.Get().(*buffer); ok {
		return buf
	}
	return new(buffer)
}

func (b *Buffers) release(buf *buffer) {
	if b != nil {
		b.pool.Put(buf)
	}
}

// Sequence returns a sequence number for the next message of a request.
func (s *Socket) Sequence() uint32 {
	s.sequence++
	return s.sequence
}

// Get asks for one object and calls each with the body of every answer. The error of
// the kernel, a [unix.Errno], is returned.
func (s *Socket) Get(kind uint16, body []byte, each func(body []byte) error) error {
	return s.ask(Header{Type: kind, Flags: unix.NLM_F_REQUEST}, body, each)
}

// Dump asks for a list and calls each with the body of every entry. It fails where
// the list has no end.
func (s *Socket) Dump(kind uint16, body []byte, each func(body []byte) error) error {
	return s.ask(Header{Type: kind, Flags: unix.NLM_F_REQUEST | unix.NLM_F_DUMP}, body, each)
}

func (s *Socket) ask(h Header, body []byte, each func(body []byte) error) error {
	h.Sequence = s.Sequence()
	complete := false
	err := s.Exchange(h.Append(nil, body), func(m Message) error {
		switch m.Type {
		case unix.NLMSG_NOOP:
			return nil
		case unix.NLMSG_ERROR, unix.NLMSG_DONE:
			complete = true
			return Errno(m.Body)
		}
		complete = complete || h.Flags&unix.NLM_F_DUMP == 0
		return each(m.Body)
	})
	if err == nil && !complete {
		return errors.New("the kernel has not answered a netlink request to its end")
	}
	return err
}

// Exchange sends the messages of a request at once and calls each with every answer.
// It goes on to the last one, so that none is left for the next exchange, and returns
// the first error.
func (s *Socket) Exchange(request []byte, each func(Message) error) error {
	buf := s.buffers.acquire()
	defer s.buffers.release(buf)
	return fdcontrol.Do(s.file, func(fd int) error {
		if _, err := unix.Write(fd, request); err != nil {
			return os.NewSyscallError("write netlink request", err)
		}
		return s.receive(fd, buf[:], each)
	})
}

func (s *Socket) receive(fd int, buf []byte, each func(Message) error) error {
	var first error
	for {
		n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return first
		case err != nil:
			return os.NewSyscallError("read netlink answer", err)
		case !s.deadline.IsZero() && time.Now().After(s.deadline):
			return os.ErrDeadlineExceeded
		}
		if err := handle(buf[:n], each); first == nil {
			first = err
		}
	}
}

// handle calls each with every message and returns the first error.
func handle(b []byte, each func(Message) error) error {
	var first error
	for m, err := range Messages(b) {
		if err == nil {
			err = each(m)
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// drain reads all there is. Answers that found no room are no loss.
func (s *Socket) drain() error {
	buf := s.buffers.acquire()
	defer s.buffers.release(buf)
	return fdcontrol.Do(s.file, func(fd int) error {
		for {
			_, _, err := unix.Recvfrom(fd, buf[:], unix.MSG_DONTWAIT)
			switch {
			case errors.Is(err, unix.EAGAIN):
				return nil
			case err != nil && !errors.Is(err, unix.ENOBUFS):
				return os.NewSyscallError("read netlink answer", err)
			}
		}
	})
}
