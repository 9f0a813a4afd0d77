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
// also inspects and answers them. It makes a system call for each wait: the
// runtime's poller would wake a goroutine for each queue, which at a steady
// load costs more than all the work for the few packets that have come.
//
// After turnBatches of one queue, or turnTime, the others get their turns. All methods but Run and
// Close may be called at any time by any goroutine.
type Poller struct {
	epoll int
	wake  int // an eventfd that ends Run
	size  int // of a message
	// coalesce is the time between turns by the clock.
	coalesce int64

	// The goroutine in Run owns these. The members in timed have their turns by the
	// clock, the next ones when due has come.
	waiter waiter
	due    int64
	timed  []int32
	// serving is the reader that has its turn; only this goroutine sets it.
	serving atomic.Pointer[Reader]

	mu      sync.Mutex
	members map[int32]*member
	next    int32
}

const (
	turnBatches = 4
	// turnTime is after how long a turn gets no further batch. One of 64 datagrams takes a
	// fraction of it, and one of packets that begin connections more.
	turnTime = 200 * time.Microsecond
)

// member is a reader that a poller serves. The token is what epoll knows it by.
type member struct {
	token     int32
	reader    *Reader
	coalescer coalescer // owned by the goroutine in Run
}

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
		members:  make(map[int32]*member),
	}
	if err := p.control(unix.EPOLL_CTL_ADD, wake, unix.EPOLLIN, 0); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *Poller) control(op, fd int, events uint32, token int32) error {
	event := unix.EpollEvent{Events: events, Fd: token}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.epoll, op, fd, &event))
}

// Add makes the poller serve the reader until its queue is closed or cannot be
// read. A reader that has stopped may be added again.
func (p *Poller) Add(r *Reader) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next++
	m := &member{token: p.next, reader: r, coalescer: coalescer{interval: p.coalesce}}
	err := os.ErrClosed
	epoll := p.epoll
	goOn := func() { p.tellOf(epoll, m) }
	r.pausing.goOn.Store(&goOn)
	if r.queue.onClose(func() { p.remove(m) }) {
		err = p.watch(m, unix.EPOLL_CTL_ADD, unix.EPOLLIN)
	}
	if err != nil {
		return fmt.Errorf("poll queue %d: %w", r.Number(), err)
	}
	r.stopped.Store(nil)
	p.members[m.token] = m
	return nil
}

// watch changes what the kernel tells of the member's packets. It fails where the
// queue is closed.
func (p *Poller) watch(m *member, op int, events uint32) error {
	return m.reader.queue.control(func(fd int) error {
		return p.control(op, fd, events, m.token)
	})
}

// pause has the kernel tell of no packets of the member until its reader goes on.
func (p *Poller) pause(m *member) {
	m.coalescer = coalescer{interval: p.coalesce}
	p.removeTimed(m.token)
	_ = p.watch(m, unix.EPOLL_CTL_MOD, 0)
	if !m.reader.pausing.on.Load() { // it went on meanwhile
		p.tellOf(p.epoll, m)
	}
}

// tellOf has the kernel tell of the member's packets. Any goroutine may call it, also when
// the poller is closed and knows the member no more.
func (p *Poller) tellOf(epoll int, m *member) {
	_ = m.reader.queue.control(func(fd int) error {
		event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: m.token}
		return unix.EpollCtl(epoll, unix.EPOLL_CTL_MOD, fd, &event)
	})
}

// remove takes a reader out. The kernel would go on telling of the
// socket's packets for as long as another process holds a copy of it.
func (p *Poller) remove(m *member) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.members[m.token] == m {
		delete(p.members, m.token)
		_ = p.watch(m, unix.EPOLL_CTL_DEL, 0) // it fails where the poller is closed
	}
}

func (p *Poller) member(token int32) *member {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.members[token]
}

// Run serves the readers until Stop, and returns nil then. One goroutine runs a
// poller at a time. In one that an inspector held up, and that Supersede took the
// poller from, Run returns [ErrSuperseded]. Errors of single readers are the readers'
// own.
func (p *Poller) Run() (err error) {
	b, err := newBatch(p.size)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
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
	m := p.member(token)
	if m == nil {
		p.removeTimed(token)
		return false, nil
	}
	p.serving.Store(m.reader)
	stats, err := m.reader.serve(b)
	if errors.Is(err, ErrSuperseded) {
		return false, err
	}
	p.serving.Store(nil)
	if err != nil {
		p.fail(m, err)
		return false, nil
	}
	now := p.waiter.instant()
	if stats.packets > 0 {
		p.waiter.stayHot(now)
	}
	if stats.paused {
		p.pause(m)
		return false, nil
	}
	m.coalescer.turn(now, stats)
	if m.coalescer.timed != slices.Contains(p.timed, token) {
		p.setTimed(m)
	}
	return stats.more, nil
}

// fail removes a reader that cannot be read.
func (p *Poller) fail(m *member, err error) {
	p.remove(m)
	m.reader.stopped.Store(&err)
}

// setTimed has the kernel tell of the member's packets or not, as its coalescer
// says.
func (p *Poller) setTimed(m *member) {
	events := uint32(unix.EPOLLIN)
	if m.coalescer.timed {
		events = 0
		p.timed = append(p.timed, m.token)
	} else {
		p.removeTimed(m.token)
	}
	_ = p.watch(m, unix.EPOLL_CTL_MOD, events)
}

// removeTimed gives the member no more turns by the clock.
func (p *Poller) removeTimed(token int32) {
	p.timed = slices.DeleteFunc(p.timed, func(t int32) bool { return t == token })
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

// Supersede takes the reader that has its turn from a goroutine whose inspector has
// been busy with a batch for longer than budget: the batch gets the policy's
// verdict, and what the inspector answers later is discarded. It returns the
// reader, nil for none; the caller then calls Run in a new goroutine.
func (p *Poller) Supersede(budget time.Duration) (*Reader, error) {
	r := p.serving.Load()
	if r == nil {
		return nil, nil
	}
	superseded, err := r.supersede(budget)
	if !superseded {
		return nil, err
	}
	return r, err
}

// Idle reports that no reader has its turn, nor will have before Awake is
// called.
func (p *Poller) Idle() bool { return p.waiter.cold.Load() }

// Stop makes every Run return.
func (p *Poller) Stop() error {
	one := [8]byte{1}
	_, err := unix.Write(p.wake, one[:])
	return os.NewSyscallError("write eventfd", err)
}

// EndDeferrals ends the deferring of all readers, after Run has returned.
func (p *Poller) EndDeferrals() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.members {
		m.reader.EndDeferrals()
	}
}

// Close closes the poller's descriptors, after all Runs that were not superseded
// have returned.
func (p *Poller) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := errors.Join(unix.Close(p.epoll), unix.Close(p.wake))
	p.epoll, p.wake = -1, -1
	return err
}
