// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Poller waits for packets in many queues on behalf of one goroutine, which
// also inspects and answers them. Each wait is a system call of its own: the
// runtime's poller would wake a goroutine for each queue, which at a steady
// load costs more than all the work for the few packets that have come.
//
// Of a queue with many packets, others get their turn after turnBatches.
type Poller struct {
	epoll int
	wake  int // an eventfd that ends Run
	size  int // of a message
	// serving is the reader that has its turn.
	serving atomic.Pointer[Reader]

	mu      sync.Mutex
	readers map[int32]*Reader
	next    int32
}

const (
	turnBatches = 4
	maxEvents   = 64
)

// NewPoller returns a poller for readers whose queues copy at most copyRange
// bytes of a packet.
func NewPoller(copyRange uint32) (*Poller, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("eventfd", err), unix.Close(epoll))
	}
	p := &Poller{
		epoll: epoll, wake: wake, size: messageSize(copyRange),
		readers: make(map[int32]*Reader),
	}
	if err := p.control(unix.EPOLL_CTL_ADD, wake, 0); err != nil {
		return nil, errors.Join(err, p.Free())
	}
	return p, nil
}

func (p *Poller) control(op, fd int, token int32) error {
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: token}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.epoll, op, fd, &event))
}

// Add makes the poller serve the reader until its queue is closed or cannot be
// read. A reader that has stopped may be added again.
func (p *Poller) Add(r *Reader) error {
	r.stopped.Store(nil)
	p.mu.Lock()
	p.next++
	token := p.next
	p.readers[token] = r
	p.mu.Unlock()
	r.queue.onClose(func() { p.forget(token) })
	err := r.queue.control(func(fd int) error {
		return p.control(unix.EPOLL_CTL_ADD, fd, token)
	})
	if err != nil {
		p.forget(token)
		return fmt.Errorf("poll queue %d: %w", r.queue.config.Number, err)
	}
	return nil
}

// forget drops a reader whose descriptor the kernel drops by itself.
func (p *Poller) forget(token int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.readers, token)
}

func (p *Poller) reader(token int32) *Reader {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.readers[token]
}

// Run serves the readers until Stop, and returns nil then. It returns
// [ErrRelieved] in a goroutine that was held up by an inspector and whose
// successor serves them now. Errors of single readers are the readers' own.
func (p *Poller) Run() error {
	b := newBatch(p.size)
	events := make([]unix.EpollEvent, maxEvents)
	for {
		n, err := unix.EpollWait(p.epoll, events, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return os.NewSyscallError("epoll_wait", err)
		}
		for _, event := range events[:n] {
			if event.Fd == 0 {
				return nil
			}
			r := p.reader(event.Fd)
			if r == nil {
				continue
			}
			p.serving.Store(r)
			err := r.serve(b)
			p.serving.CompareAndSwap(r, nil)
			if err != nil {
				if errors.Is(err, ErrRelieved) {
					return err
				}
				p.fail(event.Fd, r, err)
			}
		}
	}
}

// Relieve takes the queue that has its turn from a goroutine whose inspector
// has been busy with a batch for longer than budget: the batch gets the
// policy's verdict, and what the inspector answers later is discarded. It
// returns the reader whose queue it was, nil for none; the caller then calls
// Run in a new goroutine.
func (p *Poller) Relieve(budget time.Duration) (*Reader, error) {
	r := p.serving.Load()
	if r == nil {
		return nil, nil
	}
	relieved, err := r.relieve(budget)
	if !relieved {
		return nil, err
	}
	p.serving.CompareAndSwap(r, nil)
	return r, err
}

// fail ends the service of a reader whose socket cannot be read.
func (p *Poller) fail(token int32, r *Reader, err error) {
	p.forget(token)
	_ = r.queue.control(func(fd int) error { return p.control(unix.EPOLL_CTL_DEL, fd, token) })
	r.stopped.Store(&err)
}

// Stop makes every Run return.
func (p *Poller) Stop() error {
	one := [8]byte{1}
	_, err := unix.Write(p.wake, one[:])
	return os.NewSyscallError("write eventfd", err)
}

// Free closes the poller's descriptors, after all Runs have returned.
func (p *Poller) Free() error {
	return errors.Join(unix.Close(p.epoll), unix.Close(p.wake))
}
