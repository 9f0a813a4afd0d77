// SPDX-License-Identifier: Apache-2.0

//go:build vmguest

package kmod

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/test/nstest"
)

// A reader owns one queue of one netns.
type reader struct {
	fd  int
	num uint16
	buf []byte
	// request is what every verdict asks for its flow, 0 for nothing.
	request atomic.Uint32
	// answered is how many packets got their verdict.
	answered atomic.Int64
}

type packet struct {
	id      uint32
	hook    uint8
	mark    uint32
	payload []byte
}

// Attributes of nfnetlink_queue, and its message types.
const (
	msgPacket  = unix.NFNL_SUBSYS_QUEUE << 8
	msgVerdict = msgPacket | 1
	msgConfig  = msgPacket | 2

	attrPacketHeader = 1
	attrVerdict      = 2
	attrMark         = 3
	attrPayload      = 10
	attrPriority     = 21

	configCommand = 1
	configParams  = 2
	configMaxLen  = 3

	hookIn      = 1
	hookForward = 2
	hookOut     = 3
)

func attr(kind uint16, data []byte) []byte {
	out := binary.NativeEndian.AppendUint16(nil, uint16(4+len(data)))
	out = binary.NativeEndian.AppendUint16(out, kind)
	out = append(out, data...)
	for len(out)%4 != 0 {
		out = append(out, 0)
	}
	return out
}

func message(kind, flags uint16, body []byte) []byte {
	out := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(body)))
	out = binary.NativeEndian.AppendUint16(out, kind)
	out = binary.NativeEndian.AppendUint16(out, flags)
	out = append(out, make([]byte, 8)...)
	return append(out, body...)
}

// answer is what the kernel says to a message.
func answer(buf []byte) error {
	if len(buf) < 20 || binary.NativeEndian.Uint16(buf[4:]) != unix.NLMSG_ERROR {
		return fmt.Errorf("unexpected netlink answer % x", buf)
	}
	if errno := int32(binary.NativeEndian.Uint32(buf[16:])); errno != 0 {
		return unix.Errno(-errno)
	}
	return nil
}

func nfgen(num uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{unix.AF_UNSPEC, 0}, num)
}

func (n *netns) openQueue(num uint16) (r *reader, err error) {
	err = n.Try(func() error {
		r, err = openQueue(num)
		return err
	})
	return r, err
}

// openQueue opens a queue of the netns in which it is called. It binds with one
// message: a queue without its copy mode drops.
func openQueue(num uint16) (*reader, error) {
	r := &reader{num: num, buf: make([]byte, 1<<17)}
	var err error
	r.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	if err := r.bind(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *reader) bind() error {
	const commandBind, copyPacket = 1, 2
	body := slices.Concat(nfgen(r.num),
		attr(configCommand, []byte{commandBind, 0, 0, 0}),
		attr(configParams, []byte{0, 0, 0xff, 0xff, copyPacket}),
		attr(configMaxLen, []byte{0, 0, 0x10, 0}))
	if err := unix.SetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(r.fd, unix.SOL_NETLINK, unix.NETLINK_NO_ENOBUFS, 1); err != nil {
		return err
	}
	out := message(msgConfig, unix.NLM_F_REQUEST|unix.NLM_F_ACK, body)
	if _, err := unix.Write(r.fd, out); err != nil {
		return err
	}
	for {
		n, err := unix.Read(r.fd, r.buf)
		if err != nil {
			return err
		}
		// Packets may come before the answer.
		if binary.NativeEndian.Uint16(r.buf[4:]) == unix.NLMSG_ERROR {
			return answer(r.buf[:n])
		}
	}
}

func (n *netns) newReader(t *testing.T, num uint16) *reader {
	t.Helper()
	r, err := n.openQueue(num)
	if err != nil {
		t.Fatalf("bind queue %d: %v", num, err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// Close does nothing the second time.
func (r *reader) Close() error {
	if r.fd < 0 {
		return nil
	}
	err := unix.Close(r.fd)
	r.fd = -1
	return os.NewSyscallError("close", err)
}

var errNoPacket = errors.New("no packet")

// next returns the next packet, or errNoPacket when none comes in time.
func (r *reader) next(timeout time.Duration) (*packet, error) {
	fds := []unix.PollFd{{Fd: int32(r.fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, int(timeout.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return nil, errNoPacket
		}
		n, err = unix.Read(r.fd, r.buf)
		if err != nil {
			return nil, err
		}
		// Anything else is an error about a verdict whose packet is gone.
		if binary.NativeEndian.Uint16(r.buf[4:]) == msgPacket {
			return parsePacket(r.buf[:n]), nil
		}
	}
}

func parsePacket(buf []byte) *packet {
	p := &packet{}
	for rest := buf[unix.NLMSG_HDRLEN+4:]; len(rest) >= 4; {
		size := int(binary.NativeEndian.Uint16(rest))
		data := rest[4:size]
		switch binary.NativeEndian.Uint16(rest[2:]) &^ unix.NLA_F_NESTED {
		case attrPacketHeader:
			p.id = binary.BigEndian.Uint32(data)
			p.hook = data[6]
		case attrMark:
			p.mark = binary.BigEndian.Uint32(data)
		case attrPayload:
			p.payload = append([]byte(nil), data...)
		}
		rest = rest[min((size+3)&^3, len(rest)):]
	}
	return p
}

func (r *reader) accept(p *packet) error {
	const nfAccept = 1
	verdict := binary.BigEndian.AppendUint32(nil, nfAccept)
	verdict = binary.BigEndian.AppendUint32(verdict, p.id)
	body := slices.Concat(nfgen(r.num), attr(attrVerdict, verdict))
	if request := r.request.Load(); request != 0 {
		body = append(body, attr(attrPriority, binary.BigEndian.AppendUint32(nil, request))...)
	}
	_, err := unix.Write(r.fd, message(msgVerdict, unix.NLM_F_REQUEST, body))
	r.answered.Add(1)
	return err
}

// expect returns n packets, and no verdict has been given to any of them.
func (r *reader) expect(t *testing.T, n int) []*packet {
	t.Helper()
	var got []*packet
	for range n {
		p, err := r.next(nstest.Patient(time.Minute))
		if err != nil {
			t.Fatalf("packet %d of %d at queue %d: %v", len(got)+1, n, r.num, err)
		}
		got = append(got, p)
	}
	return got
}

// serve accepts every packet until the returned function is called, which then
// says how many there were.
func (r *reader) serve(see func(*packet)) (stop func() int) {
	var done atomic.Bool
	var group sync.WaitGroup
	count := 0
	group.Go(func() {
		for !done.Load() {
			p, err := r.next(20 * time.Millisecond)
			if errors.Is(err, errNoPacket) {
				continue
			}
			if err != nil {
				return
			}
			count++
			if see != nil {
				see(p)
			}
			_ = r.accept(p) // the packet may be gone with its netns
		}
	})
	return func() int {
		done.Store(true)
		group.Wait()
		return count
	}
}
