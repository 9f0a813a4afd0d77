// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"encoding/binary"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// shelf keeps packets in place of the daemon, as many as it has room for.
type shelf struct {
	room     int
	released []inspect.Verdict
}

func (s *shelf) Defer(p *inspect.Packet, limit time.Duration) (inspect.Deferred, bool) {
	if s.room == 0 || limit > inspect.MaxDefer {
		return inspect.Deferred{}, false
	}
	s.room--
	return inspect.NewDeferred(s, uint64(p.ID)), true
}

func (s *shelf) Release(_ uint64, v inspect.Verdict) bool {
	s.released = append(s.released, v)
	return true
}

func (s *shelf) ReleaseAll(held []inspect.Deferred, verdicts []inspect.Verdict) int {
	s.released = append(s.released, verdicts...)
	return len(held)
}

// segment returns a packet of TCP of a pod.
func segment(a *inspect.Attachment, s *shelf, flags byte, seq uint32, text string) *inspect.Packet {
	b := make([]byte, 40, 40+len(text))
	b[0], b[8], b[9] = 0x45, 64, inspect.ProtoTCP
	binary.BigEndian.PutUint16(b[2:], uint16(40+len(text)))
	ends, direction := []byte{10, 0, 0, 1, 203, 0, 113, 5, 0x40, 0, 0, 80}, inspect.Out
	if flags == 0x12 {
		ends, direction = []byte{203, 0, 113, 5, 10, 0, 0, 1, 0, 80, 0x40, 0}, inspect.In
		binary.BigEndian.PutUint32(b[28:], seq)
	}
	copy(b[12:], ends)
	if flags != 0x12 {
		binary.BigEndian.PutUint32(b[24:], seq)
	}
	b[32], b[33] = 0x50, flags
	b = append(b, text...)
	return &inspect.Packet{Direction: direction, Payload: b, Length: len(b), Attachment: a, Deferrer: s}
}

const holding = `
  undecided: Hold
  default: reject
  rules:
  - {name: mark, when: server.port == 80, action: mark, mark: 1/1}
  - {name: web, when: http.host == "a.example", action: accept}`

func TestHold(t *testing.T) {
	for host, want := range map[string]inspect.Action{"a.example": inspect.Accept, "b.example": inspect.Reject} {
		i := New(Options{Rules: mustCompile(t, set("s", holding))})
		a, s := &inspect.Attachment{}, &shelf{room: 2}
		i.Attached(a)
		send := func(flags byte, seq uint32, text string, want inspect.Action) {
			t.Helper()
			if v := i.Inspect(segment(a, s, flags, seq, text)); v.Action != want {
				t.Errorf("%q: %+v, want %s", text, v, want)
			}
		}
		send(2, 99, "", inspect.Accept)
		send(0x12, 100, "", inspect.Accept)
		send(16, 100, "", inspect.Accept)
		send(16, 100, "GET /", inspect.Defer)
		send(16, 105, " HTTP/1.1\r\n", inspect.Defer)
		send(16, 116, "Host: ", inspect.Drop) // there is no room
		if len(s.released) > 0 {
			t.Fatalf("released before the decision: %+v", s.released)
		}
		send(16, 122, host+"\r\n\r\n", want)
		held := inspect.Verdict{Action: inspect.Drop, Mark: 1, MarkMask: 1, Reason: "s/default"}
		if want == inspect.Accept {
			held.Action, held.Reason = inspect.Accept, "s/web"
		}
		if !reflect.DeepEqual(s.released, []inspect.Verdict{held, held}) {
			t.Errorf("released %+v", s.released)
		}
	}
}

// holdBench is a pod whose packets are held, and a clock.
type holdBench struct {
	*testing.T
	*Inspector
	*shelf
	pod  *inspect.Attachment
	now  time.Duration
	next uint32 // what the client says next
}

func newHoldBench(t *testing.T, room int) *holdBench {
	t.Helper()
	b := &holdBench{T: t, shelf: &shelf{room: room}, pod: new(inspect.Attachment), now: time.Hour, next: 100}
	b.Inspector = New(Options{
		Rules: mustCompile(t, set("s", holding)), Now: func() time.Duration { return b.now },
	})
	b.Attached(b.pod)
	for _, p := range []*inspect.Packet{
		segment(b.pod, b.shelf, 2, 99, ""), segment(b.pod, b.shelf, 0x12, 100, ""),
	} {
		b.want("handshake", b.Inspect(p), inspect.Verdict{Action: inspect.Accept})
	}
	return b
}

// want compares verdicts without their marks and reasons.
func (b *holdBench) want(what string, got, want inspect.Verdict) {
	b.Helper()
	got.Mark, got.MarkMask, got.Settle, got.Reason = 0, 0, false, ""
	if !reflect.DeepEqual(got, want) {
		b.Errorf("%s: %+v, want %+v", what, got, want)
	}
}

func (b *holdBench) say(text string, want inspect.Verdict) {
	b.Helper()
	b.want(text[:min(len(text), 20)], b.Inspect(segment(b.pod, b.shelf, 16, b.next, text)), want)
	b.next += uint32(len(text))
}

// wait lets time pass, and checks what is released.
func (b *holdBench) wait(d time.Duration, want ...inspect.Verdict) {
	b.Helper()
	b.released = nil
	b.now += d
	b.Tick()
	if len(b.released) != len(want) {
		b.Fatalf("released %+v, want %+v", b.released, want)
	}
	for i := range want {
		b.want("released", b.released[i], want[i])
	}
}

// by is a verdict that only acts.
func by(a inspect.Action) inspect.Verdict { return inspect.Verdict{Action: a} }

const firstLine = "GET / HTTP/1.1\r\n"

// Pieces go on when no other comes, but for the one that completes the message.
func TestHoldGoesOn(t *testing.T) {
	for host, want := range map[string]inspect.Verdict{"a.example": by(inspect.Accept), "b.example": by(inspect.Reject)} {
		b := newHoldBench(t, 9)
		b.say("GET", by(inspect.Defer))
		b.wait(holdQuiet - 1)
		b.wait(1, by(inspect.Accept))
		b.wait(time.Second)
		b.say(" / HTTP/1.1\r\n", by(inspect.Defer))
		b.say("Host: ", by(inspect.Defer))
		b.wait(holdQuiet, by(inspect.Accept), by(inspect.Accept))
		b.next = 100
		b.say(firstLine, by(inspect.Accept)) // sent again
		b.next += uint32(len("Host: "))
		b.say(host+"\r\n\r\n", want)
	}
}

// More than may go on is dropped. A reset has the number of what was dropped first.
func TestHoldDrops(t *testing.T) {
	long := "X: " + strings.Repeat("x", holdLeak) + "\r\n"
	for host, want := range map[string]inspect.Verdict{"a.example": by(inspect.Accept), "b.example": by(inspect.Reject)} {
		b := newHoldBench(t, 9)
		b.say(firstLine, by(inspect.Defer))
		b.wait(holdQuiet, by(inspect.Accept))
		b.say(long, by(inspect.Defer))
		b.say("Y: y\r\n", by(inspect.Defer))
		b.wait(holdQuiet, by(inspect.Drop), by(inspect.Drop))
		b.say("Z: z\r\n", by(inspect.Defer))
		if want.Action == inspect.Reject {
			want.Withheld = uint32(len(long) + 2*len("Y: y\r\n"))
		}
		b.say("Host: "+host+"\r\n\r\n", want)
	}
}

// What is held in front of the packet that is rejected is withheld, too, as is what there
// was no room for.
func TestHoldWithholds(t *testing.T) {
	for room := range 3 {
		b := newHoldBench(t, room)
		said := []string{firstLine, "X: x\r\n"}
		want := by(inspect.Reject)
		for i, text := range said {
			want.Withheld += uint32(len(text))
			b.say(text, []inspect.Verdict{by(inspect.Defer), by(inspect.Drop)}[min(1, max(0, i+1-room))])
		}
		b.say("Host: b.example\r\n\r\n", want)
	}
}

// Time decides what is held. The ends are told by the first packet.
func TestHoldEnds(t *testing.T) {
	b := newHoldBench(t, 9)
	b.say(firstLine, by(inspect.Defer))
	b.wait(holdQuiet, by(inspect.Accept))
	b.say("X: x\r\n", by(inspect.Defer))
	b.say("Y: y\r\n", by(inspect.Defer))
	b.wait(holdLimit, by(inspect.Reject), by(inspect.Drop))
	b.wait(holdLimit)
	b.say("Z: z\r\n", by(inspect.Reject))

	b = newHoldBench(t, 9)
	long := "X: " + strings.Repeat("x", holdLeak) + "\r\n"
	b.say(firstLine+long, by(inspect.Defer))
	b.wait(holdQuiet, by(inspect.Drop))
	b.say("Y: y\r\n", by(inspect.Defer))
	want := by(inspect.Reject)
	want.Withheld = uint32(len(firstLine + long))
	b.wait(holdLimit, want)
}

// A flow without packets that wait is forgotten.
func TestHoldForgets(t *testing.T) {
	h := held{flows: map[uint64]*heldFlow{1: {last: time.Second}}}
	h.tick(time.Second + holdLimit)
	if h.tick(time.Second + holdLimit + 1); len(h.flows) > 0 {
		t.Error("it is not")
	}
}
