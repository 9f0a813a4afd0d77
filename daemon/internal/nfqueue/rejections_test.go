// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// testRejecter has sent some packets, and tells of every second one.
type testRejecter struct {
	sent     int
	marks    []uint32
	withheld []uint32
	before   func() // what Reject calls
}

func (r *testRejecter) Reject(_ *inspect.Packet, withheld, mark uint32) bool {
	r.before()
	r.marks = append(r.marks, mark)
	r.withheld = append(r.withheld, withheld)
	return len(r.marks)%2 == 0
}

func (r *testRejecter) Sent(*inspect.Packet) bool {
	r.sent--
	return r.sent >= 0
}

// Rejected packets are dropped, and the ends told before the kernel has a verdict. What
// they are told passes uninspected.
func TestReject(t *testing.T) {
	const packets, sent, mark = 6, 2, 1 << 24
	w := newWire(t)
	r := testReader(inspect.Func(func(*inspect.Packet) inspect.Verdict {
		return inspect.Verdict{Action: inspect.Reject, Settle: true, Mark: mark, MarkMask: mark, Withheld: 9}
	}))
	rejecter := &testRejecter{sent: sent, before: func() {
		_, _, err := unix.Recvfrom(w.kernels, make([]byte, 8), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if !errors.Is(err, unix.EAGAIN) {
			t.Errorf("a verdict came first (%v)", err)
		}
		if n := r.Counters.Rejected.Load(); n != packets-sent {
			t.Errorf("%d are counted as rejected, want %d", n, packets-sent)
		}
	}}
	r.options.Rejecter = rejecter
	r.SetSettle(acceptRequest, dropRequest)
	sendBatch(t, r, w, packets)
	verdicts, err := w.read()
	if err != nil || len(verdicts) != 1+packets-sent {
		t.Fatalf("%d verdicts, %v: want one for what was sent, and one for each other", len(verdicts), err)
	}
	if v := binary.BigEndian.Uint32(verdicts[0]); v != verdictAccept || len(verdicts[0]) != 8 {
		t.Errorf("what was sent gets %d, %x", v, verdicts[0])
	}
	for _, v := range verdicts[1:] {
		if priorityOf(v)&settleMask != dropRequest {
			t.Errorf("asks by %#x", priorityOf(v))
		}
	}
	c := &r.Counters
	if c.Packets.Load() != packets-sent || c.Dropped.Load() != 0 || c.Accepted.Load() != 0 ||
		c.Untold.Load() != (packets-sent)/2 || c.Settled.Load() != packets-sent {
		t.Errorf("%d inspected, %d dropped, %d accepted, %d untold, %d settled", c.Packets.Load(),
			c.Dropped.Load(), c.Accepted.Load(), c.Untold.Load(), c.Settled.Load())
	}
	if len(rejecter.marks) != packets-sent || rejecter.marks[0]&mark == 0 || rejecter.withheld[0] != 9 {
		t.Errorf("told of marks %#x, withheld %d", rejecter.marks, rejecter.withheld)
	}
	rejecter.before = func() {}
	sendBatch(t, r, w, 1)
	if len(rejecter.marks) != packets-sent+1 {
		t.Errorf("told of %d, want one more", len(rejecter.marks))
	}
}

// Without anyone to tell them, rejected packets are dropped.
func TestRejectUntold(t *testing.T) {
	r := testReader(inspect.Func(func(*inspect.Packet) inspect.Verdict {
		return inspect.Verdict{Action: inspect.Reject}
	}))
	w := newWire(t)
	sendBatch(t, r, w, 1)
	verdicts, err := w.read()
	if err != nil || len(verdicts) != 1 || binary.BigEndian.Uint32(verdicts[0]) != verdictDrop {
		t.Errorf("%x, %v", verdicts, err)
	}
}

// Nobody is told of what the inspector rejects after its time: the policy has decided.
func TestLateRejectIsNotTold(t *testing.T) {
	var r *Reader
	r = testReader(inspect.Func(func(*inspect.Packet) inspect.Verdict {
		if superseded, _ := r.supersede(0); !superseded {
			t.Error("not superseded")
		}
		return inspect.Verdict{Action: inspect.Reject}
	}))
	w := newWire(t)
	readFrom(t, r, w.ours)
	r.options.Rejecter = &testRejecter{before: func() { t.Error("told") }}
	s, m := r.session, packetMessage(t)
	s.verdicts.reset(nil, 80)
	s.begin(m)
	s.handle(m)
	if err := s.send(uintptr(w.ours), &batch{}); !errors.Is(err, ErrSuperseded) {
		t.Error(err)
	}
}

// What was sent is no part of a batch that is inspected together, and has its place
// among the answers.
func TestSentOfABatch(t *testing.T) {
	const packets, sent = 5, 2
	r := testReader(batchFunc(func(packets []*inspect.Packet, verdicts []inspect.Verdict) {
		for i, p := range packets {
			if p.ID <= sent {
				t.Errorf("packet %d is inspected", p.ID)
			}
			verdicts[i].Action = inspect.Reject
		}
	}))
	r.options.Rejecter = &testRejecter{sent: sent}
	var messages [][]byte
	for id := range uint32(packets) {
		messages = append(messages, messageOf(t, id+1, false))
	}
	for i, a := range r.session.answerAll(&batch{}, messages) {
		want := single{uint32(i + 1), verdictDrop}
		if i < sent {
			want.verdict = verdictAccept
		}
		if a != want {
			t.Errorf("answer %d: %+v, want %+v", i, a, want)
		}
	}
	if n := len(r.session.rejected); n != packets-sent {
		t.Errorf("%d are told of, want %d", n, packets-sent)
	}
}
