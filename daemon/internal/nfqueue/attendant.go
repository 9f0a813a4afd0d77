// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Attendant serves one queue at a time, whose packets keep coming one by one, and
// waits for them in the very call that reads them. A poller, who waits for many
// queues at once, pays for each packet with a system call more (at 1,000 round
// trips a second: 23 us a packet, else 20). It hands such a queue over, with the
// seat that it would have waited for it on, and gets it back when the packets
// stop or come in such numbers that they are better gathered.
type Attendant struct {
	offers Offers
	seats  Seats
	awake  func()
	size   int // of a message

	serving atomic.Pointer[charge]
	stop    chan struct{}
	stops   sync.Once
}

// Offers are what pollers hand to attendants.
type Offers chan *charge

// NewOffers returns offers that nobody makes or takes yet.
func NewOffers() Offers { return make(Offers) }

// charge is a reader that its poller has left to an attendant.
type charge struct {
	poller *Poller
	token  int32
	reader *Reader
	ended  chan struct{}
}

func newCharge(p *Poller, token int32, r *Reader) *charge {
	c := &charge{p, token, r, make(chan struct{})}
	r.charge.Store(c)
	return c
}

// end says that the attendant has left the queue.
func (c *charge) end() {
	c.reader.charge.Store(nil)
	close(c.ended)
}

// NewAttendant returns an attendant for pollers that were made with these
// options, whose Seats and Offers it needs.
func NewAttendant(o PollerOptions) *Attendant {
	return &Attendant{
		offers: o.Offers, seats: o.Seats, awake: o.Awake, size: messageSize(o.CopyRange),
		stop: make(chan struct{}),
	}
}

// Run serves readers until Stop, and returns nil then. As [Poller.Run] does, it
// returns [ErrRelieved] in a goroutine that has a successor.
func (a *Attendant) Run() (err error) {
	b, err := newBatch(a.size)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.free()) }()
	for {
		select {
		case <-a.stop:
			return nil
		case c := <-a.offers:
			if err := a.attend(c, b); err != nil {
				return err
			}
		}
	}
}

// attend serves the reader for as long as that is the best way.
func (a *Attendant) attend(c *charge, b *batch) error {
	a.serving.Store(c)
	if a.awake != nil {
		a.awake()
	}
	err := c.reader.attend(b, a.stop, c.poller.waiter.instant)
	if errors.Is(err, ErrRelieved) {
		return err
	}
	a.serving.Store(nil)
	a.seats.leave()
	c.giveBack(err)
	return nil
}

// giveBack ends the charge, and lets the poller serve the reader again, unless it
// cannot be read.
func (c *charge) giveBack(err error) {
	c.end()
	if err == nil {
		err = c.poller.watch(c.token, c.reader)
	}
	if err != nil && !c.reader.queue.closed.Load() {
		c.poller.fail(c.token, c.reader, err)
	}
}

// Relieve is [Poller.Relieve] for an attendant.
func (a *Attendant) Relieve(budget time.Duration) (*Reader, error) {
	c := a.serving.Load()
	if c == nil {
		return nil, nil
	}
	relieved, err := c.reader.relieve(budget, func() bool {
		return a.serving.CompareAndSwap(c, nil)
	})
	if !relieved {
		return nil, err
	}
	a.seats.leave()
	c.giveBack(nil)
	return c.reader, err
}

// Idle reports that no reader is served, nor will be before Awake is called.
func (a *Attendant) Idle() bool { return a.serving.Load() == nil }

// Stop makes Run return.
func (a *Attendant) Stop() error {
	a.stops.Do(func() { close(a.stop) })
	return nil
}

// dismiss ends the stay of an attendant, who may be waiting for packets, and
// returns when it is over, unless the inspector holds it up.
func (r *Reader) dismiss() {
	c := r.charge.Load()
	if c == nil {
		return
	}
	_ = r.queue.nudge() // without, it lasts as long as it waits
	select {
	case <-c.ended:
	case <-time.After(20 * time.Duration(hotFor)):
	}
}

// attend answers packets as they come, until none has for a while, or they
// should be gathered. A queue that is closed has none.
func (r *Reader) attend(b *batch, stop <-chan struct{}, now func() int64) error {
	s := r.onDuty()
	s.batch = b
	var err error
	if r.raw.Control(func(fd uintptr) { err = s.stay(fd, stop, now) }) != nil {
		return nil
	}
	return err
}

// stay waits for packets without the Go scheduler's knowledge, as a waiter does
// on its seat.
func (s *shift) stay(fd uintptr, stop <-chan struct{}, now func() int64) error {
	timeout := unix.NsecToTimeval(hotFor)
	err := unix.SetsockoptTimeval(int(fd), unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout)
	if err != nil {
		return os.NewSyscallError("setsockopt SO_RCVTIMEO", err)
	}
	p := &s.reader.pace
	for !p.timed && !s.reader.queue.closed.Load() {
		select {
		case <-stop:
			return nil
		default:
		}
		n, err := s.batch.receive(fd, unix.MSG_WAITFORONE)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR): // the runtime wants a moment
			continue
		case errors.Is(err, unix.ENOBUFS):
			s.reader.Counters.Errors.Add(1)
			continue
		case err != nil:
			return os.NewSyscallError("recvmmsg", err)
		}
		s.busy.Store(true)
		err = s.answerBatch(fd, s.batch, n)
		s.busy.Store(false)
		if err != nil {
			return err
		}
		p.turn(now(), haul{packets: n, bytes: int(s.answers.tally.bytes)})
	}
	return nil
}
