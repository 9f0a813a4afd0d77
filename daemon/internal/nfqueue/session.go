// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"encoding/binary"
	"errors"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/nlsock"
)

// answers make messages to the kernel of what the inspector says.
type answers struct {
	reader   *Reader
	verdicts verdictBatch
	// requests are those by which the verdicts may ask to settle.
	requests requestBits
	rejected []rejection // whose payloads are in the batch, or deferred
}

// session is one goroutine's ownership of a reader. It lasts until the goroutine is
// superseded.
type session struct {
	answers
	packet inspect.Packet
	// deferrer is the session where the inspector defers verdicts, and deferred are
	// the packets of the batch that it has deferred, under the reader's sending. newest is
	// the highest of their IDs, expected which of them is asked for next.
	deferrer inspect.Deferrer
	deferred []*deferral
	newest   uint32
	expected int
	// batches is the inspector, where it takes whole batches, and together the one
	// that is gathered for it.
	batches  inspect.BatchInspector
	together *together

	// turn is what serve calls with the queue's descriptor, made once because
	// making it allocates; batch is its argument, stats and err are its results.
	turn  func(fd uintptr)
	batch *batch
	stats turnStats
	err   error

	// ended: the turn began after the reader's End.
	ended bool
	busy  atomic.Bool
	// inspecting is since when the inspector has a batch, by the reader's clock, 0
	// while it has none; lastID is that batch's last packet. Either the session or
	// Supersede answers the batch: the reader's mu decides.
	inspecting atomic.Int64
	lastID     atomic.Uint32
	// answered is the last packet of the last batch that has its verdicts.
	answered atomic.Uint32
}

func newSession(r *Reader) *session {
	s := &session{answers: answers{reader: r}}
	if r.deferrals != nil {
		s.deferrer = s
	}
	s.batches, _ = r.options.Inspector.(inspect.BatchInspector)
	s.turn = func(fd uintptr) { s.err = s.drain(fd) }
	return s
}

// drain answers some of the packets that are there. It returns an error where
// the socket cannot be read or is another session's.
func (s *session) drain(fd uintptr) error {
	began := s.reader.clock()
	for range turnBatches {
		if s.reader.queue.closed.Load() {
			return nil
		}
		if s.reader.pausing.on.Load() && !s.ended {
			s.stats.paused = true
			return nil
		}
		if revoked := s.reader.options.Revoked; revoked != nil && revoked() {
			return ErrRevoked
		}
		n, err := s.batch.receive(fd, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOBUFS): // reports are off, but harmless
			s.reader.Counters.Errors.Add(1)
			continue
		case err != nil:
			return os.NewSyscallError("recvmmsg", err)
		}
		if err := s.answerBatch(fd, s.batch, n); err != nil {
			return err
		}
		s.stats.packets += n
		s.stats.bytes += int(s.verdicts.counters.bytes)
		if n < batchSize {
			return nil
		}
		if s.reader.clock()-began >= turnTime {
			break
		}
	}
	s.stats.more = true
	return nil
}

// answerBatch inspects and answers the n messages in b.
func (s *session) answerBatch(fd uintptr, b *batch, n int) error {
	s.verdicts.reset(b.verdicts, s.reader.queue.config.Number)
	s.begin(b.message(n - 1))
	s.gatherIn(b)
	for i := range n {
		s.handle(b.message(i))
	}
	s.inspectTogether()
	return s.send(fd, b)
}

// answerEarly answers the packets that came while the queue was being bound.
func (s *session) answerEarly(fd uintptr) error {
	var b batch // for its verdicts, and one packet
	for _, msg := range s.reader.queue.takeEarly() {
		s.verdicts.reset(b.verdicts, s.reader.queue.config.Number)
		s.begin(msg)
		s.gatherIn(&b)
		s.handle(msg)
		s.inspectTogether()
		if err := s.send(fd, &b); err != nil {
			return err
		}
	}
	return nil
}

// begin starts the inspector's time for a batch that ends with msg. What the batch asks
// for by its verdicts, it asks by the bits of now: if they change before the verdicts are
// sent, the inspector may have decided by what counted before. Where packets are
// deferred, no verdict is about all that are older than one.
func (s *session) begin(last []byte) {
	s.requests = s.reader.requests()
	s.verdicts.single = s.reader.deferrals.any()
	if id, ok := packetID(last); ok {
		s.lastID.Store(id)
		s.inspecting.Store(int64(s.reader.clock()))
	}
}

// send ends the inspector's time and gives the verdicts to the kernel, which
// reinjects the packets before the call returns. SetSettle may have changed the
// bits since the verdicts were made.
func (s *session) send(fd uintptr, b *batch) error {
	if began := s.inspecting.Load(); began != 0 {
		s.verdicts.counters.nanoseconds = uint64(int64(s.reader.clock()) - began)
	}
	if !s.claim() {
		return ErrSuperseded
	}
	s.reader.sending.Lock()
	defer s.reader.sending.Unlock()
	s.endBatch()
	s.write(fd)
	b.verdicts = s.verdicts.buf[:0] // keep what has grown
	s.answered.Store(s.lastID.Load())
	return nil
}

// write gives the verdicts to the kernel. The caller holds the reader's sending.
func (s *answers) write(fd uintptr) {
	s.verdicts.closeRun()
	s.verdicts.revoke(s.reader.requests())
	s.verdicts.divert(*s.reader.away.Load())
	s.reader.Counters.add(&s.verdicts.counters) // first: the receiver of a packet may look
	s.tellRejected()
	for out := s.verdicts.buf; len(out) > 0; {
		var head []byte
		head, out = chunk(out)
		if err := sendToKernel(int(fd), head); err != nil {
			s.reader.Counters.Errors.Add(1)
		}
	}
}

// claim reports whether the batch is still this session's to answer.
func (s *session) claim() bool {
	s.reader.mu.Lock()
	defer s.reader.mu.Unlock()
	s.inspecting.Store(0)
	return s.reader.session == s
}

// handle answers one message.
func (s *session) handle(msg []byte) {
	if len(msg) < nlHeaderLen {
		s.verdicts.counters.malformed++
		return
	}
	switch binary.NativeEndian.Uint16(msg[4:]) {
	case msgPacket:
		s.handlePacket(msg[nlHeaderLen:])
	case unix.NLMSG_ERROR:
		s.countError(msg[nlHeaderLen:])
	}
}

// countError counts what the kernel answered to a verdict. The kernel knows no such
// packet where a process in the netns has unregistered a hook, which drops all
// packets that wait. No error is the reply to Rebind.
func (s *session) countError(payload []byte) {
	switch err := nlsock.Errno(payload); {
	case errors.Is(err, unix.ENOENT):
		s.verdicts.counters.flushed++
	case err != nil:
		s.verdicts.counters.errors++
	}
}

func (s *session) handlePacket(body []byte) {
	if s.together != nil {
		s.gather(body)
		return
	}
	p := &s.packet
	if f := s.receive(body, p); f != toInspect {
		s.answerUninspected(p, f)
		return
	}
	v := s.inspect(p)
	s.decide(p, &v)
}

// fate is what becomes of a packet that was received.
type fate uint8

const (
	noPacket fate = iota // it has no ID, so it needs no verdict
	malformed
	sentByUs // it tells of a rejected packet
	toInspect
)

// receive reads a packet, and says what becomes of it.
func (s *session) receive(body []byte, p *inspect.Packet) fate {
	*p = inspect.Packet{Attachment: s.reader.options.Attachment, Deferrer: s.deferrer}
	hasID, err := parse(body, p)
	if err != nil {
		s.verdicts.counters.malformed++
		if !hasID {
			return noPacket
		}
		return malformed
	}
	if r := s.reader.options.Rejecter; r != nil && r.Sent(p) {
		return sentByUs
	}
	s.verdicts.counters.packets++
	s.verdicts.counters.bytes += uint64(p.Length)
	return toInspect
}

// answerUninspected answers a packet that the inspector does not see.
func (s *session) answerUninspected(p *inspect.Packet, f fate) {
	switch f {
	case malformed:
		v := s.reader.policyVerdict()
		s.answer(p, &v, p.Mark)
	case sentByUs:
		s.pass(p)
	}
}

// conclude makes the packet's answer of what the inspector says.
func (s *answers) conclude(p *inspect.Packet, v *inspect.Verdict) {
	r := s.reader
	if !s.replace(p, v) {
		s.verdicts.counters.malformed++
		*v = inspect.Verdict{}
	}
	if v.Action == inspect.NoVerdict || v.Action == inspect.Defer {
		*v = r.policyVerdict()
	}
	mark := v.ApplyMark(p.Mark, r.options.MarkMask)
	if o := r.options.Observer(); o != nil {
		o.Observe(p, *v, mark)
	}
	if v.Action == inspect.Reject {
		s.rejected = append(s.rejected, rejection{*p, v.Withheld, mark})
	}
	s.answer(p, v, mark)
}

// inspect asks the inspector; its panic counts as no verdict.
func (s *session) inspect(p *inspect.Packet) (v inspect.Verdict) {
	if s.ended {
		return inspect.Verdict{}
	}
	defer func() {
		if said := recover(); said != nil {
			s.verdicts.counters.panics++
			s.reader.panicked(said)
			v = inspect.Verdict{}
		}
	}()
	return s.reader.options.Inspector.Inspect(p)
}

// answer adds the verdict to the batch, with no request to settle that is not v's. Our
// hook queues no packet with a request in its priority, but a pod's own rule can send
// one into our queue, from where it can reach the hook that believes requests.
func (s *answers) answer(p *inspect.Packet, v *inspect.Verdict, mark uint32) {
	a := rawVerdict{verdict: verdictDrop, mark: mark, setMark: mark != p.Mark}
	switch v.Action {
	case inspect.Accept:
		a.verdict = verdictAccept
		a.payload = v.Payload
	case inspect.Queue:
		a.verdict = s.reader.requeue(v.Queue)
		a.payload = v.Payload
	}
	settled := s.requestSettling(p, v, &a)
	if !settled {
		a.clearRequest(p)
	}
	s.verdicts.count(v.Action, settled)
	s.verdicts.add(p.ID, &a)
}

// requestSettling puts the request into the packet's priority. A packet that is
// to be dropped travels on to the hook that settles, which drops it.
func (s *answers) requestSettling(p *inspect.Packet, v *inspect.Verdict, a *rawVerdict) bool {
	if !v.Settle {
		return false
	}
	bits := s.requests.of(v.Action)
	if bits == 0 {
		return false
	}
	a.verdict, a.settles = verdictAccept, true
	a.priority, a.setPriority = p.Priority&^settleMask|bits, true
	return true
}

// settleMask are the bits of the priority that carry requests, settleDrop is the
// one that all requests to drop have.
const (
	settleMask = 0xff000000
	settleDrop = 1 << 31
)

// replace puts a copy with right checksums in place of the verdict's payload. It
// reports whether the inspector may answer so: not where it has not said that it
// modifies packets or the packet was not whole, since what replaces it replaces
// all of it, nor by what is no whole IP packet.
func (s *answers) replace(p *inspect.Packet, v *inspect.Verdict) bool {
	if v.Payload == nil || v.Action != inspect.Accept && v.Action != inspect.Queue {
		v.Payload = nil
		return true
	}
	if !s.reader.queue.config.Modifies || len(p.Payload) != p.Length ||
		len(v.Payload) > MaxCopyRange {
		return false
	}
	v.Payload = append([]byte(nil), v.Payload...)
	return inspect.FixChecksums(v.Payload)
}
