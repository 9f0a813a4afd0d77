// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"errors"
	"fmt"
	"os"
	"slices"
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
	// coalesce is the time between turns by the clock, due is when the next
	// ones are, timed are whose. They and waiter are the goroutine's on duty.
	coalesce int64
	due      int64
	timed    []int32
	waiter   waiter
	// serving is the reader that has its turn.
	serving atomic.Pointer[Reader]

	mu      sync.Mutex
	readers map[int32]*Reader
	next    int32
}

const turnBatches = 4

// PollerOptions are what a poller works with.
type PollerOptions struct {
	// CopyRange is how many bytes of a packet the readers' queues copy at most.
	CopyRange uint32
	// Coalesce is how long packets may be left waiting, so that more come; 0
	// means that they never are.
	Coalesce time.Duration
	// HotWaits are shared by the pollers of a process; nil is none.
	HotWaits HotWaits
	// Awake, if any, is called whenever the poller is no longer idle.
	Awake func()
}

// NewPoller returns a poller that has no readers yet.
func NewPoller(o PollerOptions) (*Poller, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("eventfd", err), unix.Close(epoll))
	}
	p := &Poller{
		epoll: epoll, wake: wake, size: messageSize(o.CopyRange),
		coalesce: o.Coalesce.Nanoseconds(),
		waiter:   newWaiter(epoll, &o),
		readers:  make(map[int32]*Reader),
	}
	if err := p.control(unix.EPOLL_CTL_ADD, wake, 0); err != nil {
		return nil, errors.Join(err, p.Close())
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
	r.coalescer.interval = p.coalesce
	p.mu.Unlock()
	r.queue.onClose(func() { p.forget(token) })
	if err := p.watch(token, r); err != nil {
		p.forget(token)
		return err
	}
	return nil
}

// watch has the kernel tell of the reader's packets. What was done to the reader
// before is known to the goroutine that serves it then.
func (p *Poller) watch(token int32, r *Reader) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := r.queue.control(func(fd int) error {
		return p.control(unix.EPOLL_CTL_ADD, fd, token)
	})
	if err != nil {
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
// [ErrSuperseded] in a goroutine that was held up by an inspector and whose
// successor serves them now. Errors of single readers are the readers' own.
func (p *Poller) Run() (err error) {
	b, err := newBatch(p.size)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.free()) }()
	for {
		ready, err := p.waiter.wait(p.due)
		if err != nil {
			return err
		}
		for _, event := range ready {
			if event.Fd == 0 {
				return nil
			}
			if _, err := p.turn(event.Fd, b); err != nil {
				return err
			}
		}
		if err := p.timedTurns(b); err != nil {
			return err
		}
	}
}

// turn serves one reader, and reports whether it needs another turn at once.
// Its error ends Run.
func (p *Poller) turn(token int32, b *batch) (more bool, err error) {
	r := p.reader(token)
	if r == nil {
		p.timed = slices.DeleteFunc(p.timed, func(t int32) bool { return t == token })
		return false, nil
	}
	p.serving.Store(r)
	h, err := r.serve(b)
	if errors.Is(err, ErrSuperseded) {
		return false, err
	}
	p.serving.CompareAndSwap(r, nil)
	if err != nil {
		p.fail(token, r, err)
		return false, nil
	}
	now := p.waiter.instant()
	if h.packets > 0 {
		p.waiter.stayHot(now)
	}
	r.coalescer.turn(now, h)
	if r.coalescer.timed != slices.Contains(p.timed, token) {
		p.setTimed(token, r)
	}
	return h.more, nil
}

// setTimed has the kernel tell of the reader's packets or not, as its coalescer says.
func (p *Poller) setTimed(token int32, r *Reader) {
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: token}
	if r.coalescer.timed {
		event.Events = 0
		p.timed = append(p.timed, token)
	} else {
		p.timed = slices.DeleteFunc(p.timed, func(t int32) bool { return t == token })
	}
	// It fails where the queue has been closed meanwhile.
	_ = r.queue.control(func(fd int) error {
		return unix.EpollCtl(p.epoll, unix.EPOLL_CTL_MOD, fd, &event)
	})
}

// timedTurns serves those that get their turns by the clock, all at once.
func (p *Poller) timedTurns(b *batch) error {
	now := p.waiter.instant()
	if p.due == 0 && len(p.timed) > 0 { // the first one
		p.due = now + p.coalesce
	}
	if p.due == 0 || now < p.due {
		return nil
	}
	anyMore := false
	for _, token := range slices.Backward(p.timed) { // a turn may take its reader out
		more, err := p.turn(token, b)
		if err != nil {
			return err
		}
		anyMore = anyMore || more
	}
	p.due = 0
	if len(p.timed) > 0 {
		p.due = now
		if !anyMore {
			p.due = p.waiter.instant() + p.coalesce
		}
	}
	return nil
}

// Supersede takes the queue that has its turn from a goroutine whose inspector
// has been busy with a batch for longer than budget: the batch gets the
// policy's verdict, and what the inspector answers later is discarded. It
// returns the reader whose queue it was, nil for none; the caller then calls
// Run in a new goroutine.
func (p *Poller) Supersede(budget time.Duration) (*Reader, error) {
	r := p.serving.Load()
	if r == nil {
		return nil, nil
	}
	superseded, err := r.supersede(budget, func() bool { return p.serving.CompareAndSwap(r, nil) })
	if !superseded {
		return nil, err
	}
	return r, err
}

// Idle reports that no reader has its turn, nor will have before Awake is
// called.
func (p *Poller) Idle() bool { return p.waiter.cold.Load() }

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

// Close closes the poller's descriptors, after all Runs have returned.
func (p *Poller) Close() error {
	return errors.Join(unix.Close(p.epoll), unix.Close(p.wake))
}
