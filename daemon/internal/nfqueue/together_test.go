// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// batchFunc is an inspector that takes batches only.
type batchFunc func(packets []*inspect.Packet, verdicts []inspect.Verdict)

func (batchFunc) Inspect(*inspect.Packet) inspect.Verdict { panic("one packet alone") }

func (f batchFunc) InspectBatch(packets []*inspect.Packet, verdicts []inspect.Verdict) {
	f(packets, verdicts)
}

// messageOf is a packet message with another ID; cut leaves no payload in it.
func messageOf(tb testing.TB, id uint32, cut bool) []byte {
	tb.Helper()
	m := packetMessage(tb)
	binary.BigEndian.PutUint32(m[nlHeaderLen+genHeaderLen+attrLen:], id)
	if cut {
		m = m[:len(m)-12]
	}
	return m
}

// answerAll is answerBatch without a socket. It returns the verdicts by ID, in the
// order of the answers, with runs taken apart.
func (s *session) answerAll(b *batch, messages [][]byte) []single {
	s.verdicts.reset(b.verdicts, 80)
	s.gatherIn(b)
	for _, m := range messages {
		s.handle(m)
	}
	s.inspectTogether()
	s.verdicts.closeRun()
	return singles(s.verdicts.buf, messages)
}

type single struct{ id, verdict uint32 }

// singles reads verdict messages as the kernel does, of packets that wait.
func singles(out []byte, waiting [][]byte) (answers []single) {
	var ids []uint32
	for _, m := range waiting {
		if id, ok := packetID(m); ok {
			ids = append(ids, id)
		}
	}
	for len(out) > 0 {
		verdict := binary.BigEndian.Uint32(out[verdictAt:])
		id := binary.BigEndian.Uint32(out[verdictAt+4:])
		run := binary.NativeEndian.Uint16(out[4:]) == msgVerdictBatch
		ids = slices.DeleteFunc(ids, func(i uint32) bool {
			answered := i == id || run && int32(i-id) < 0
			if answered {
				answers = append(answers, single{i, verdict})
			}
			return answered
		})
		out = out[align(int(binary.NativeEndian.Uint32(out))):]
	}
	return answers
}

// An inspector of batches gets what can be inspected in one call, in order, and each
// packet gets its own verdict, the policy's where there is none.
func TestBatch(t *testing.T) {
	var got []uint32
	calls := 0
	r := testReader(batchFunc(func(packets []*inspect.Packet, verdicts []inspect.Verdict) {
		calls++
		for i, p := range packets {
			got = append(got, p.ID)
			if verdicts[i].Action != inspect.NoVerdict || p.Attachment == nil {
				t.Errorf("packet %d: before, its verdict is %+v", p.ID, verdicts[i])
			}
			switch p.ID % 3 {
			case 0:
				verdicts[i].Action = inspect.Accept
			case 1:
				verdicts[i].Action = inspect.Drop
			}
		}
	}))
	r.SetFailOpen(false)
	var messages [][]byte
	for id := range uint32(batchSize - 1) {
		messages = append(messages, messageOf(t, id, id%10 == 9))
	}
	messages = append(messages, messageOf(t, 0, false)[:nlHeaderLen+3]) // has no ID
	var b batch
	for range 2 {
		got, calls = nil, 0
		answers := r.session.answerAll(&b, messages)
		if len(answers) != batchSize-1 || calls != 1 || len(got) != batchSize-1-6 {
			t.Fatalf("%d answers, %d calls with %d packets", len(answers), calls, len(got))
		}
		for id, a := range answers {
			want := uint32(verdictDrop)
			if id%3 == 0 && id%10 != 9 {
				want = verdictAccept
			}
			if a != (single{uint32(id), want}) {
				t.Errorf("%+v, want %d for %d", a, want, id)
			}
		}
		if !slices.IsSorted(got) {
			t.Errorf("inspected in the order %v", got)
		}
	}
	if c := r.session.verdicts.counters; c.packets != batchSize-7 || c.malformed != 7 {
		t.Errorf("counted %+v", c)
	}
}

// A panic takes back all verdicts of the batch, and is one.
func TestBatchPanics(t *testing.T) {
	r := testReader(batchFunc(func(_ []*inspect.Packet, verdicts []inspect.Verdict) {
		verdicts[0].Action = inspect.Accept
		panic("inspector")
	}))
	r.SetFailOpen(false)
	var b batch
	answers := r.session.answerAll(&b, [][]byte{messageOf(t, 1, false), messageOf(t, 2, false)})
	if !slices.Equal(answers, []single{{1, verdictDrop}, {2, verdictDrop}}) {
		t.Errorf("answered %+v", answers)
	}
	if c := r.session.verdicts.counters; c.panics != 1 || c.dropped != 2 || r.TakePanic() != "inspector" {
		t.Errorf("counted %+v", c)
	}
}

// After the end the inspector gets no batch.
func TestBatchAfterEnd(t *testing.T) {
	r := testReader(batchFunc(func([]*inspect.Packet, []inspect.Verdict) { t.Error("called") }))
	r.session.ended = true
	var b batch
	answers := r.session.answerAll(&b, [][]byte{messageOf(t, 1, false)})
	if !slices.Equal(answers, []single{{1, verdictAccept}}) {
		t.Errorf("answered %+v", answers)
	}
}

func acceptBatch(_ []*inspect.Packet, verdicts []inspect.Verdict) {
	for i := range verdicts {
		verdicts[i].Action = inspect.Accept
	}
}

func TestBatchDoesNotAllocate(t *testing.T) {
	r := testReader(batchFunc(acceptBatch))
	b := batch{verdicts: make([]byte, 0, batchSize*verdictLen)}
	m := packetMessage(t)
	n := testing.AllocsPerRun(1000, func() {
		r.session.verdicts.reset(b.verdicts, 80)
		r.session.gatherIn(&b)
		for range batchSize {
			r.session.handle(m)
		}
		r.session.inspectTogether()
		r.session.verdicts.closeRun()
	})
	if n != 0 {
		t.Errorf("%v allocations a batch", n)
	}
}

// BenchmarkBatch is the way of 64 packets through the reader without the kernel.
func BenchmarkBatch(b *testing.B) {
	for name, i := range map[string]inspect.Inspector{
		"single": inspect.AcceptAll{}, "batch": batchFunc(acceptBatch),
	} {
		b.Run(name, func(b *testing.B) {
			r := testReader(i)
			into := batch{verdicts: make([]byte, 0, batchSize*verdictLen)}
			m := packetMessage(b)
			b.ReportAllocs()
			for b.Loop() {
				r.session.verdicts.reset(into.verdicts, 80)
				r.session.gatherIn(&into)
				for range batchSize {
					r.session.handle(m)
				}
				r.session.inspectTogether()
				r.session.verdicts.closeRun()
			}
			perPacket := float64(b.Elapsed().Nanoseconds()) / float64(b.N*batchSize)
			b.ReportMetric(perPacket, "ns/packet")
		})
	}
}
