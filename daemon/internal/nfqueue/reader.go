// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// Observer sees every inspected packet. The reader calls Observe between the
// inspector and the verdict: it must neither block nor keep p.
type Observer interface {
	Observe(p *inspect.Packet, v inspect.Verdict, mark uint32)
}

// Rejecter tells the ends of flows that their packets are rejected. Its methods are
// called by the goroutines of several readers, and must not block.
type Rejecter interface {
	// Reject is called before the packet's verdict reaches the kernel. Withheld is that
	// of [inspect.Verdict], and the mark is the one that the packet would go on with. It
	// reports false where an end could not be told.
	Reject(p *inspect.Packet, withheld, mark uint32) bool
	// Sent reports whether a packet is what Reject has sent, once for each. Such a
	// packet passes without inspection.
	Sent(p *inspect.Packet) bool
}

// ReaderOptions are what a reader works with. All fields but Rejecter, Away,
// Panicked and Ended are required.
type ReaderOptions struct {
	Inspector  inspect.Inspector
	Attachment *inspect.Attachment
	// MarkMask are the bits of the mark that the inspector may set.
	MarkMask uint32
	// Observer is called for each packet; it may return nil.
	Observer func() Observer
	// Rejecter, if any, is told of packets that the inspector rejects.
	Rejecter Rejecter
	// Away is what SetAway is told at first.
	Away []Away
	// Panicked, if any, is called with what the inspector's panic says, while its
	// stack is there. Calls for several readers are concurrent.
	Panicked func(r *Reader, said any)
	// Ended, if any, is called once after End, when the inspector has no packet of
	// the reader any more. The goroutine that had the last one calls it, or End.
	Ended func()
	// Revoked, if any, is asked before packets are read: another process may read the queue
	// by then, and a verdict for many packets would be about those that it has in its hands.
	Revoked func() bool
}

// ErrRevoked is why a reader has stopped that was revoked.
var ErrRevoked = errors.New("another process reads the queue")

// ErrSuperseded is what a poller's Run returns in a goroutine whose inspector
// overran its time, after which another goroutine took over.
var ErrSuperseded = errors.New("superseded after an overrun")

// Reader reads one queue and answers each packet, in the goroutine that runs the
// poller that it is added to. All its methods may be called at any time by any
// goroutine.
type Reader struct {
	Counters Counters

	queue   *Queue
	raw     syscall.RawConn
	options ReaderOptions
	clock   clock
	policy  atomic.Uint32 // the verdict for packets that cannot be inspected
	settle  atomic.Uint64 // priority bits: accept in the upper half, drop below
	sending sync.Mutex    // held while verdicts are sent, which ask by settle's bits
	away    atomic.Pointer[away]
	// deferrals are nil where the inspector defers no verdicts.
	deferrals *deferrals
	stopped   atomic.Pointer[error]
	panic     atomic.Pointer[string] // the first since TakePanic
	turns     turns
	pausing   pausing

	mu      sync.Mutex
	session *session // the right to answer
}

// NewReader returns a reader of the bound queue q, whose packets are accepted
// (failOpen) or dropped where they cannot be inspected. Packets that have come
// already are answered.
func NewReader(q *Queue, failOpen bool, o ReaderOptions) (*Reader, error) {
	raw, err := q.file.SyscallConn()
	if err != nil {
		return nil, err
	}
	r := &Reader{queue: q, raw: raw, options: o, clock: newClock()}
	r.SetAway(o.Away)
	r.turns.done = o.Ended
	r.SetFailOpen(failOpen)
	r.setSession()
	q.setDeferrals(r.deferrals)
	err = q.control(func(fd int) error { return r.session.answerEarly(uintptr(fd)) })
	return r, err
}

// setSession gives the reader its first session.
func (r *Reader) setSession() {
	r.deferrals = newDeferrals(r)
	r.session = newSession(r)
	if r.deferrals != nil {
		r.deferrals.session = r.session
	}
}

// serve gives the reader a turn. The goroutine that runs its poller calls it. A queue
// that is closed has no packets.
func (r *Reader) serve(b *batch) (turnStats, error) {
	s := r.current()
	s.batch, s.stats, s.err = b, turnStats{}, nil
	s.busy.Store(true)
	defer s.busy.Store(false)
	s.ended = r.turns.begin()
	defer r.turns.end()
	if err := r.raw.Control(s.turn); err != nil {
		return turnStats{}, nil
	}
	return s.stats, s.err
}

// End has the inspector get no more packets: they get the policy's verdict, and so do
// those that are deferred. Calls after the first do nothing.
func (r *Reader) End() {
	r.deferrals.end()
	r.turns.stop()
	r.pausing.resume()
}

// EndDeferrals gives packets that are deferred the policy's verdict, and has no more
// deferred.
func (r *Reader) EndDeferrals() { r.deferrals.end() }

// Err returns why the reader is no longer served, nil while it is.
func (r *Reader) Err() error {
	if err := r.stopped.Load(); err != nil {
		return *err
	}
	return nil
}

// SetFailOpen changes the verdict for packets that cannot be inspected.
func (r *Reader) SetFailOpen(open bool) {
	if open {
		r.policy.Store(verdictAccept)
	} else {
		r.policy.Store(verdictDrop)
	}
}

// SetSettle changes the bits of the packet priority by which a verdict asks the
// hook to settle a flow. Zeroes mean that flows cannot be settled. No verdict
// that comes after its return asks by other bits, not even one for a packet that
// the inspector had before.
func (r *Reader) SetSettle(accept, drop uint32) {
	r.sending.Lock()
	defer r.sending.Unlock()
	r.settle.Store(uint64(accept)<<32 | uint64(drop))
}

// Busy reports whether the reader has packets that it has not answered. A packet that has its
// verdict no longer waits in the queue, but until the reader is idle it may
// still be on its way through the hooks behind ours.
func (r *Reader) Busy() bool { return r.current().busy.Load() }

// Answered reports whether the packet of an ID, and those before it, have their
// verdicts, or are deferred. It may report false after the inspector overran its time,
// until more packets have come.
func (r *Reader) Answered(id uint32) bool {
	return int32(r.current().answered.Load()-id) >= 0
}

func (r *Reader) current() *session {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.session
}

// supersede puts a new session in place of one that overran: see
// [Poller.Supersede].
func (r *Reader) supersede(budget time.Duration) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.session
	began := time.Duration(old.inspecting.Load())
	if began == 0 || r.clock()-began < budget {
		return false, nil
	}
	r.session = newSession(r)
	r.Counters.Overruns.Add(1)
	if d := r.deferrals; d != nil {
		return true, d.supersede(r.session, old.lastID.Load())
	}
	return true, r.queue.AnswerAll(old.lastID.Load(), r.policy.Load() == verdictAccept)
}

// Number is the queue's.
func (r *Reader) Number() uint16 { return r.queue.config.Number }

// Attachment is the one whose packets the reader reads.
func (r *Reader) Attachment() *inspect.Attachment { return r.options.Attachment }

// policyVerdict is the answer for a packet that could not be inspected.
func (r *Reader) policyVerdict() inspect.Verdict {
	if r.policy.Load() == verdictAccept {
		return inspect.Verdict{Action: inspect.Accept}
	}
	return inspect.Verdict{Action: inspect.Drop}
}

// requestBits are the priority bits that ask to settle a flow, 0 for none.
type requestBits struct{ accept, drop uint32 }

func (r *Reader) requests() requestBits {
	bits := r.settle.Load()
	return requestBits{accept: uint32(bits >> 32), drop: uint32(bits)}
}

func (b requestBits) of(action inspect.Action) uint32 {
	switch action {
	case inspect.Accept:
		return b.accept
	case inspect.Drop, inspect.Reject:
		return b.drop
	}
	return 0
}
