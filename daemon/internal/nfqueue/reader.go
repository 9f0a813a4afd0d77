// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"encoding/binary"
	"errors"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// Observer is told of every inspected packet. Observe is called by the reader
// between the inspector and the verdict: it must neither block nor keep p.
type Observer interface {
	Observe(p *inspect.Packet, v inspect.Verdict, mark uint32)
}

// ReaderOptions are what a reader works with. All fields but Observer are
// required.
type ReaderOptions struct {
	Inspector  inspect.Inspector
	Attachment *inspect.Attachment
	// MarkMask are the bits of the mark that the inspector may set.
	MarkMask uint32
	Pool     *Pool
	// Observer is asked for before each packet; it may return nil.
	Observer func() Observer
}

// Counters count what a reader did. They may be read at any time.
type Counters struct {
	Packets, Bytes            atomic.Uint64
	Accepted, Dropped, Queued atomic.Uint64
	// Malformed messages, whose packets got the policy's verdict.
	Malformed atomic.Uint64
	// Panics of the inspector, whose packets got the policy's verdict.
	Panics atomic.Uint64
	// Errors that the kernel sent back.
	Errors atomic.Uint64
}

// Reader reads one queue and answers each packet. Run is called once; the
// other methods may be called meanwhile.
type Reader struct {
	Counters Counters

	queue    *Queue
	options  ReaderOptions
	fallback atomic.Uint32 // the verdict for packets that cannot be inspected
	busy     atomic.Bool
	packet   inspect.Packet
}

// NewReader returns a reader of q, whose packets are accepted (failOpen) or
// dropped where they cannot be inspected.
func NewReader(q *Queue, failOpen bool, o ReaderOptions) *Reader {
	r := &Reader{queue: q, options: o}
	r.SetFailOpen(failOpen)
	return r
}

// SetFailOpen changes the verdict for packets that cannot be inspected.
func (r *Reader) SetFailOpen(open bool) {
	if open {
		r.fallback.Store(verdictAccept)
	} else {
		r.fallback.Store(verdictDrop)
	}
}

// Busy reports whether the reader has packets in hand. A packet that has its
// verdict no longer waits in the queue, but until the reader is idle it may
// still be on its way through the hooks behind ours.
func (r *Reader) Busy() bool { return r.busy.Load() }

// Run answers packets until the queue is closed; it then returns nil.
func (r *Reader) Run() error {
	raw, err := r.queue.file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Read(func(fd uintptr) (done bool) {
		failed = r.drain(fd)
		return failed != nil
	})
	if r.queue.closed.Load() {
		return nil
	}
	return errors.Join(err, failed)
}

// drain answers all packets that are there. It returns nil when there is none
// left or the queue is closed, and an error where the socket cannot be read.
func (r *Reader) drain(fd uintptr) error {
	r.busy.Store(true)
	defer r.busy.Store(false)
	b := r.options.Pool.get()
	defer r.options.Pool.put(b)
	r.answerEarly(fd, b)
	for !r.queue.closed.Load() {
		n, err := b.receive(fd)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.ENOBUFS): // reports are off, but harmless
			r.Counters.Errors.Add(1)
			continue
		case err != nil:
			return os.NewSyscallError("recvmmsg", err)
		}
		out := b.verdicts[:0]
		for i := range n {
			out = r.handle(b.message(i), out)
		}
		r.send(fd, out)
	}
	return nil
}

// answerEarly answers the packets that came while the queue was being bound.
func (r *Reader) answerEarly(fd uintptr, b *batch) {
	for _, msg := range r.queue.early {
		r.send(fd, r.handle(msg, b.verdicts[:0]))
	}
	r.queue.early = nil
}

// handle answers one message by appending to the verdicts in out.
func (r *Reader) handle(msg, out []byte) []byte {
	if len(msg) < nlHeaderLen {
		r.Counters.Malformed.Add(1)
		return out
	}
	switch binary.NativeEndian.Uint16(msg[4:]) {
	case msgPacket:
		return r.handlePacket(msg[nlHeaderLen:], out)
	case unix.NLMSG_ERROR:
		r.Counters.Errors.Add(1)
	}
	return out
}

func (r *Reader) handlePacket(body, out []byte) []byte {
	p := &r.packet
	*p = inspect.Packet{Attachment: r.options.Attachment}
	hasID, err := parse(body, p)
	if err != nil {
		r.Counters.Malformed.Add(1)
		if !hasID {
			return out
		}
		return r.append(out, p, r.policyVerdict(), p.Mark)
	}
	r.Counters.Packets.Add(1)
	r.Counters.Bytes.Add(uint64(p.Length))
	v := r.inspect(p)
	if v.Action == inspect.NoVerdict {
		v = r.policyVerdict()
	}
	mark := v.ApplyMark(p.Mark, r.options.MarkMask)
	if o := r.options.Observer(); o != nil {
		o.Observe(p, v, mark)
	}
	return r.append(out, p, v, mark)
}

// inspect asks the inspector; its panic counts as no verdict.
func (r *Reader) inspect(p *inspect.Packet) (v inspect.Verdict) {
	defer func() {
		if recover() != nil {
			r.Counters.Panics.Add(1)
			v = inspect.Verdict{}
		}
	}()
	return r.options.Inspector.Inspect(p)
}

// policyVerdict is the answer for a packet that could not be inspected.
func (r *Reader) policyVerdict() inspect.Verdict {
	if r.fallback.Load() == verdictAccept {
		return inspect.Verdict{Action: inspect.Accept}
	}
	return inspect.Verdict{Action: inspect.Drop}
}

func (r *Reader) append(out []byte, p *inspect.Packet, v inspect.Verdict, mark uint32) []byte {
	verdict := uint32(verdictDrop)
	switch v.Action {
	case inspect.Accept:
		verdict = verdictAccept
		r.Counters.Accepted.Add(1)
	case inspect.Queue:
		verdict = verdictRequeue | uint32(v.Queue)<<16
		r.Counters.Queued.Add(1)
	default:
		r.Counters.Dropped.Add(1)
	}
	return appendVerdict(out, r.queue.config.Number, p.ID, verdict, mark, mark != p.Mark)
}

// send gives the verdicts to the kernel, which reinjects the packets before
// the call returns.
func (r *Reader) send(fd uintptr, out []byte) {
	if len(out) == 0 {
		return
	}
	if err := sendToKernel(int(fd), out); err != nil {
		r.Counters.Errors.Add(1)
	}
}

// sendToKernel writes to a netlink socket that is connected to nobody, which
// means to the kernel.
func sendToKernel(fd int, b []byte) error {
	for {
		_, err := unix.Write(fd, b)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
