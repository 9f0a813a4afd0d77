// SPDX-License-Identifier: Apache-2.0

package reject

import (
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
)

// idle is how long sockets stay open that nobody uses, and retry how long it is not
// tried again to open one that could not be opened: the caller's time is precious.
const (
	idle  = time.Minute
	retry = time.Second
)

// Sender sends the answers to rejected packets of one netns, by raw sockets that it
// opens at the first one and closes a minute after the last one. All methods may be
// called at any time by any goroutine.
//
// It sends at once and never waits for room: an answer must have left before its
// packet's verdict, which may have the kernel drop the rest of the flow.
//
// Answers to the pod come by its loopback device, which no hook queues. Those that
// leave the pod are queued: their mark or their socket cannot exempt them, because a
// pod could have the same. So the sender knows the last ones again, see Sent.
type Sender struct {
	ns     *netns.NetNS
	began  time.Time
	sent   *sent
	untold *Untold

	mu      sync.Mutex
	closed  bool
	sockets map[int]int // by domain
	answers *Answers    // nil while no socket is open
	limit   limit
	used    time.Duration // when the sockets were used last, since began
	refused time.Duration // until when none is opened
	refusal *socketError  // why not
	timer   *time.Timer
}

// NewSender returns a sender for a netns, which stays the caller's until Close. It counts
// what it cannot send.
func NewSender(ns *netns.NetNS, untold *Untold) *Sender {
	return &Sender{
		ns: ns, began: time.Now(), sent: newSent(), sockets: make(map[int]int, 2),
		limit: newLimit(0), untold: untold,
	}
}

// Sent reports whether a packet from the pod is an answer that Reject has sent. It
// is so once for each.
func (s *Sender) Sent(p *inspect.Packet) bool { return s.sent.take(p) }

// Reject tells the ends of the flow, unless none may be told. Withheld are the bytes in
// front of the packet that its receiver has not got either, and the mark is what the
// packet would go on with. It reports false where an end could not be told: there are
// too many such packets, or the kernel takes no answer.
func (s *Sender) Reject(p *inspect.Packet, withheld, mark uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answers == nil {
		s.answers = NewAnswers()
	}
	answers := s.answers.Make(p, withheld, rand.Uint32())
	if len(answers) == 0 {
		return true
	}
	if err := s.sendAll(p, answers, mark); err != nil {
		s.untold.note(err)
		return false
	}
	return true
}

func (s *Sender) sendAll(p *inspect.Packet, answers []Answer, mark uint32) error {
	now := time.Since(s.began)
	switch {
	case s.closed:
		return errClosed
	case now < s.refused:
		return s.refusal
	case !s.limit.allows(now):
		return errTooMany
	}
	s.used = now
	var first error
	for i := range answers {
		if err := s.send(p, &answers[i], mark); first == nil {
			first = err
		}
	}
	return first
}

// send sends one answer, unless the pod's end has no address of the pod: its packet has a
// forged source, or went to a network's broadcast address. What leaves the pod is noted
// first: it is in the queue, where another goroutine may find it, before the call returns.
func (s *Sender) send(p *inspect.Packet, a *Answer, mark uint32) error {
	fd, err := s.socket(a)
	if err != nil {
		return err
	}
	pod := podAddress(p, a)
	if err := isLocal(fd, pod); err != nil {
		return err
	}
	if a.Destination != pod {
		s.sent.add(a.Packet)
	}
	to, control := address(p, a, pod, mark)
	_, err = unix.SendmsgN(fd, a.Packet, control, to, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	return err
}

// socket returns the socket for an answer's family.
func (s *Sender) socket(a *Answer) (int, error) {
	domain := unix.AF_INET
	if a.Destination.Is6() {
		domain = unix.AF_INET6
	}
	if fd, ok := s.sockets[domain]; ok {
		return fd, nil
	}
	fd, err := open(s.ns, domain)
	if err != nil {
		s.refused, s.refusal = time.Since(s.began)+retry, &socketError{err}
		return -1, s.refusal
	}
	s.sockets[domain] = fd
	if s.timer == nil {
		s.timer = time.AfterFunc(idle, s.closeIdle)
	}
	return fd, nil
}

// closeIdle closes the sockets where they have not been used for long.
func (s *Sender) closeIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer == nil {
		return
	}
	if left := s.used + idle - time.Since(s.began); left > 0 {
		s.timer.Reset(left)
		return
	}
	_ = s.closeSockets() // nothing that they have sent is lost
}

func (s *Sender) closeSockets() error {
	if s.timer != nil {
		s.timer.Stop()
	}
	var errs []error
	for _, fd := range s.sockets {
		errs = append(errs, unix.Close(fd))
	}
	clear(s.sockets)
	s.timer, s.answers = nil, nil
	return errors.Join(errs...)
}

// Close closes the sockets. Nobody is told any more.
func (s *Sender) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return s.closeSockets()
}
