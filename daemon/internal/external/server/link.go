// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/external/proto"
)

// link is a connection with an inspector. Each packet that take has kept is released
// once: by a verdict, by the timer, or when the link closes.
type link struct {
	server *Server
	conn   *net.UnixConn
	raw    syscall.RawConn
	peer   peer
	hello  proto.Hello // with what was agreed
	memory *memory     // nil: packets are in messages
	since  time.Time
	// monotonic is the kernel's clock at since.
	monotonic time.Duration

	mu        sync.Mutex // guards what follows
	closed    bool
	draining  bool // no more packets are taken
	announced map[*inspect.Attachment]uint32
	queues    map[inspect.Deferrer]*queue
	sent      map[uint32]*batch // by sequence
	sequence  uint32
	list      batchList // of all batches, by deadline
	late      lateBatches
	outbox    outbox
	bytes     int // of packets in batches
	spare     []*batch
	timer     *time.Timer
	due       time.Duration // by clock; 0 while the timer is off

	// The goroutine that receives owns these.
	released releases
	caughtUp bool          // just now
	ended    chan struct{} // closed with the link
}

func (s *Server) newLink(c *net.UnixConn, p peer, h proto.Hello) (*link, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	l := &link{
		server: s, conn: c, raw: raw, peer: p, hello: h, since: time.Now(),
		monotonic: monotonic(),
		announced: make(map[*inspect.Attachment]uint32),
		queues:    make(map[inspect.Deferrer]*queue),
		sent:      make(map[uint32]*batch), late: make(lateBatches),
		ended: make(chan struct{}),
	}
	l.outbox.wake = make(chan struct{}, 1)
	return l, nil
}

// clock is the time since the link began.
func (l *link) clock() time.Duration { return time.Since(l.since) }

// serve receives verdicts until the inspector goes away or ctx ends, and returns why it
// ended.
func (l *link) serve(ctx context.Context) error {
	var writer sync.WaitGroup
	writer.Go(l.drainOutbox)
	stop := context.AfterFunc(ctx, l.end)
	err := l.receive()
	stop()
	l.close()
	writer.Wait()
	return err
}

// end has the inspector answer what it has, for as long as it may take, and closes the
// link.
func (l *link) end() {
	l.stopTaking()
	deadline := time.NewTimer(l.server.config.Budget)
	defer deadline.Stop()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for l.isBusy() {
		select {
		case <-deadline.C:
			l.part(proto.ReasonDone, "nsqueued ends")
			return
		case <-l.ended:
			return
		case <-poll.C:
		}
	}
	l.part(proto.ReasonDone, "nsqueued ends")
}

// stopTaking has no further packets sent to the inspector.
func (l *link) stopTaking() {
	l.mu.Lock()
	l.draining = true
	l.mu.Unlock()
	l.server.link.CompareAndSwap(l, nil)
	l.server.wakeAcceptor()
}

// part closes the link, and tells the inspector why.
func (l *link) part(reason proto.Reason, text string) {
	l.mu.Lock()
	if !l.closed {
		l.sendLocked(message{control: proto.AppendBye(nil, reason, text)})
	}
	l.mu.Unlock()
	l.close()
}

func (l *link) isBusy() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.closed && l.list.oldest != nil
}

// close ends the link. Packets that have no verdict get what OnFailure says.
func (l *link) close() {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.closed = true
	var lost releases
	for b := l.list.oldest; b != nil; b = b.next {
		l.giveUp(b, &lost)
	}
	l.list, l.sent, l.outbox.messages = batchList{}, nil, nil
	for _, q := range l.queues {
		q.resume()
	}
	if l.timer != nil {
		l.timer.Stop()
	}
	close(l.ended)
	l.mu.Unlock()
	l.server.link.CompareAndSwap(l, nil)
	l.server.counters.lost.Add(uint64(len(lost.held)))
	lost.release()
	_ = l.conn.Close()
	l.closeMemory()
}

// announce tells the inspector of an attachment.
func (l *link) announce(a *inspect.Attachment, number uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.announceLocked(a, number)
}

func (l *link) announceLocked(a *inspect.Attachment, number uint32) {
	if _, ok := l.announced[a]; ok || l.closed {
		return
	}
	l.announced[a] = number
	l.sendLocked(message{control: proto.AppendAttach(nil, number, describe(a))})
}

// forget tells the inspector that an attachment has ended.
func (l *link) forget(a *inspect.Attachment, number uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for deferrer, q := range l.queues {
		if q.attachment == a && q.isIdle() {
			delete(l.queues, deferrer)
		}
	}
	if l.announced[a] != number || l.closed { // numbers begin with 1
		return
	}
	delete(l.announced, a)
	l.sendLocked(message{control: proto.AppendDetach(nil, number)})
}

func (l *link) isStalled() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.late) > 0
}
