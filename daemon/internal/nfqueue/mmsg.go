// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchSize is how many packets one system call receives at most.
const batchSize = 64

// messageSize is the size of a buffer that holds any packet message: the
// netlink and netfilter headers and all attributes beside the payload fit in
// 512 bytes unless the kernel is told to send contexts that we never ask for.
func messageSize(copyRange uint32) int { return align(int(copyRange)) + 512 }

// mmsghdr is the kernel's struct of that name.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// batch is the memory that a reader needs while it has packets at hand.
type batch struct {
	headers  [batchSize]mmsghdr
	iovecs   [batchSize]unix.Iovec
	senders  [batchSize]unix.RawSockaddrNetlink
	buffers  []byte
	size     int // of one buffer
	verdicts []byte
}

func newBatch(size int) *batch {
	b := &batch{
		buffers:  make([]byte, batchSize*size),
		size:     size,
		verdicts: make([]byte, 0, batchSize*verdictLen),
	}
	for i := range b.headers {
		b.iovecs[i].Base = &b.buffers[i*size]
		b.iovecs[i].SetLen(size)
		b.headers[i].hdr.Iov = &b.iovecs[i]
		b.headers[i].hdr.SetIovlen(1)
		b.headers[i].hdr.Name = (*byte)(unsafe.Pointer(&b.senders[i]))
	}
	return b
}

// receive reads up to batchSize messages without waiting.
func (b *batch) receive(fd uintptr) (int, error) {
	for i := range b.headers {
		b.headers[i].hdr.Namelen = unix.SizeofSockaddrNetlink
	}
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd,
			uintptr(unsafe.Pointer(&b.headers[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// message returns the i-th message, nil where it is not whole or did not come
// from the kernel: a process in the pod's netns may send to our port, too.
func (b *batch) message(i int) []byte {
	h := &b.headers[i]
	if h.hdr.Flags&unix.MSG_TRUNC != 0 || b.senders[i].Pid != 0 ||
		h.hdr.Namelen != unix.SizeofSockaddrNetlink {
		return nil
	}
	start := i * b.size
	return b.buffers[start : start+int(h.len)]
}

// Pool lends batches to readers while they have packets at hand, so that idle
// readers hold no memory. It is safe for concurrent use.
type Pool struct {
	size int
	pool sync.Pool
}

// NewPool returns a pool for readers whose queues copy at most copyRange bytes
// of a packet.
func NewPool(copyRange uint32) *Pool {
	p := &Pool{size: messageSize(copyRange)}
	p.pool.New = func() any { return newBatch(p.size) }
	return p
}

func (p *Pool) get() *batch  { return p.pool.Get().(*batch) }
func (p *Pool) put(b *batch) { p.pool.Put(b) }
