// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// Observer is told of every inspected packet. Observe is called by the reader
// between the inspector and the verdict: it must neither block nor keep p.
type Observer interface {
	Observe(p *inspect.Packet, v inspect.Verdict, mark uint32)
}

// ReaderOptions are what a reader works with. All fields but Panicked are
// required.
type ReaderOptions struct {
	Inspector  inspect.Inspector
	Attachment *inspect.Attachment
	// MarkMask are the bits of the mark that the inspector may set.
	MarkMask uint32
	// Observer is asked for before each packet; it may return nil.
	Observer func() Observer
	// Panicked is told what the inspector's panic says, while its stack is there.
	// Calls of several readers are concurrent.
	Panicked func(r *Reader, said any)
}

// Counters count what a reader did. They may be read at any time.
type Counters struct {
	Packets, Bytes            atomic.Uint64
	Accepted, Dropped, Queued atomic.Uint64
	// Settled packets were answered with a request to settle their flow.
	Settled atomic.Uint64
	// Malformed messages, and replacements that were refused, whose packets got
	// the policy's verdict.
	Malformed atomic.Uint64
	// Panics of the inspector, whose packets got the policy's verdict.
	Panics atomic.Uint64
	// Overruns of the time budget; the batches got the policy's verdict.
	Overruns atomic.Uint64
	// Flushed verdicts, single or of a run, came too late: the kernel had
	// dropped the packets.
	Flushed atomic.Uint64
	// Other errors that the kernel sent back.
	Errors atomic.Uint64
	// InspectNanoseconds is how long the inspector had batches.
	InspectNanoseconds atomic.Uint64
}

func (c *Counters) add(t *batchCounters) {
	for _, x := range [...]struct {
		counter *atomic.Uint64
		n       uint64
	}{
		{&c.Packets, t.packets},
		{&c.Bytes, t.bytes},
		{&c.Accepted, t.accepted},
		{&c.Dropped, t.dropped},
		{&c.Queued, t.queued},
		{&c.Settled, t.settled},
		{&c.Malformed, t.malformed},
		{&c.Panics, t.panics},
		{&c.Flushed, t.flushed},
		{&c.Errors, t.errors},
		{&c.InspectNanoseconds, t.nanoseconds},
	} {
		if x.n > 0 {
			x.counter.Add(x.n)
		}
	}
}

// ErrSuperseded is what a poller's Run returns in a goroutine whose inspector
// overran its time and whose successor goes on.
var ErrSuperseded = errors.New("superseded after an overrun")

// Reader reads one queue and answers each packet, in the goroutine of the
// poller that it is added to. Its other methods may be called meanwhile.
type Reader struct {
	Counters Counters

	queue    *Queue
	raw      syscall.RawConn
	options  ReaderOptions
	clock    clock
	fallback atomic.Uint32 // the verdict for packets that cannot be inspected
	settle   atomic.Uint64 // priority bits: accept in the upper half, drop below
	sending  sync.Mutex    // verdicts, which ask by what settle is meanwhile
	stopped  atomic.Pointer[error]
	panic    atomic.Pointer[string] // the first since TakePanic

	mu      sync.Mutex
	session *session // on duty
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
	r.session = newSession(r)
	r.SetFailOpen(failOpen)
	err = q.control(func(fd int) error { return r.session.answerEarly(uintptr(fd)) })
	return r, err
}

// serve gives the reader a turn. A queue that is closed has no packets.
func (r *Reader) serve(b *batch) (turnStats, error) {
	s := r.onDuty()
	s.batch, s.stats, s.err = b, turnStats{}, nil
	s.busy.Store(true)
	defer s.busy.Store(false)
	if err := r.raw.Control(s.turn); err != nil {
		return turnStats{}, nil
	}
	return s.stats, s.err
}

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
		r.fallback.Store(verdictAccept)
	} else {
		r.fallback.Store(verdictDrop)
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

// Busy reports whether the reader has packets in hand. A packet that has its
// verdict no longer waits in the queue, but until the reader is idle it may
// still be on its way through the hooks behind ours.
func (r *Reader) Busy() bool { return r.onDuty().busy.Load() }

func (r *Reader) onDuty() *session {
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
	return true, r.queue.AnswerAll(old.lastID.Load(), r.fallback.Load() == verdictAccept)
}

// maxPanicText is how much is kept of what a panic says.
const maxPanicText = 200

// panicked keeps the first panic's text, and passes every panic on. The text is
// not made of those in between: a panic may come with each packet.
func (r *Reader) panicked(said any) {
	if r.panic.Load() == nil {
		text := PanicText(said)
		r.panic.CompareAndSwap(nil, &text)
	}
	if r.options.Panicked != nil {
		r.options.Panicked(r, said)
	}
}

// PanicText returns what a panic says, cut to a length that a log line bears.
func PanicText(said any) string {
	text := fmt.Sprint(said)
	if len(text) > maxPanicText {
		text = text[:maxPanicText] + "..."
	}
	return strings.ToValidUTF8(text, "?")
}

// TakePanic returns the text of the first panic since it was called last, empty
// for none.
func (r *Reader) TakePanic() string {
	if text := r.panic.Swap(nil); text != nil {
		return *text
	}
	return ""
}

// Number is the queue's.
func (r *Reader) Number() uint16 { return r.queue.config.Number }

// Attachment is whose packets the reader reads.
func (r *Reader) Attachment() *inspect.Attachment { return r.options.Attachment }

// policyVerdict is the answer for a packet that could not be inspected.
func (r *Reader) policyVerdict() inspect.Verdict {
	if r.fallback.Load() == verdictAccept {
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
	case inspect.Drop:
		return b.drop
	}
	return 0
}
