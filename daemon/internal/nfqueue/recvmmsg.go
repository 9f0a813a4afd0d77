// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// batchSize is how many packets one system call receives at most.
	batchSize = 64
	// nearSize is what of each message is received into a small buffer. The
	// small ones of a whole batch fit into a processor's second-level cache and
	// a few pages; a buffer for the largest message each would touch a page of
	// its own for every packet.
	nearSize = 2048
)

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

// batch is the memory that a poller works in, so that readers need none. A
// message that is longer than its near buffer goes on in the far one, where
// room for its beginning is left in front.
type batch struct {
	headers  [batchSize]mmsghdr
	iovecs   [batchSize][2]unix.Iovec
	near     []byte
	far      []byte
	farSize  int // of one far buffer, with the room in front
	verdicts []byte
	together *together // nil until an inspector takes batches
}

// newBatch maps the far buffers: few of their pages are ever touched, and Go
// would let as much garbage gather as if all of them were in use.
func newBatch(size int) (*batch, error) {
	rest := max(size-nearSize, 0)
	far, err := unix.Mmap(-1, 0, batchSize*(nearSize+rest),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	b := &batch{
		near:     make([]byte, batchSize*nearSize),
		far:      far,
		farSize:  nearSize + rest,
		verdicts: make([]byte, 0, batchSize*verdictLen),
	}
	for i := range b.headers {
		hdr := &b.headers[i].hdr
		b.iovecs[i][0].Base = &b.near[i*nearSize]
		b.iovecs[i][0].SetLen(nearSize)
		hdr.Iov = &b.iovecs[i][0]
		hdr.SetIovlen(1)
		if rest > 0 {
			b.iovecs[i][1].Base = &b.far[i*b.farSize+nearSize]
			b.iovecs[i][1].SetLen(rest)
			hdr.SetIovlen(2)
		}
	}
	return b, nil
}

func (b *batch) close() error { return os.NewSyscallError("munmap", unix.Munmap(b.far)) }

// receive reads up to batchSize messages. The scheduler does not know of the
// call, which must not wait.
func (b *batch) receive(fd uintptr, flags int) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, fd,
		uintptr(unsafe.Pointer(&b.headers[0])), batchSize, uintptr(flags), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// message returns the i-th message, nil where it is not whole.
func (b *batch) message(i int) []byte {
	h := &b.headers[i]
	if h.hdr.Flags&unix.MSG_TRUNC != 0 {
		return nil
	}
	near := b.near[i*nearSize : (i+1)*nearSize]
	if int(h.len) <= nearSize {
		return near[:h.len]
	}
	far := b.far[i*b.farSize : (i+1)*b.farSize]
	copy(far, near)
	return far[:h.len]
}
