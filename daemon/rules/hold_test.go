// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"encoding/binary"
	"slices"
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
		action, reason := inspect.Drop, "s/default"
		if want == inspect.Accept {
			action, reason = inspect.Accept, "s/web"
		}
		if len(s.released) != 2 || s.released[0].Action != action || s.released[1].Mark != 1 ||
			s.released[0].Reason != reason {
			t.Errorf("released %+v", s.released)
		}
	}
}

// Time releases what is held, too.
func TestHoldEnds(t *testing.T) {
	now := time.Hour
	i := New(Options{Rules: mustCompile(t, set("s", holding)), Now: func() time.Duration { return now }})
	a, s := &inspect.Attachment{}, &shelf{room: 9}
	i.Attached(a)
	for _, p := range []*inspect.Packet{
		segment(a, s, 2, 99, ""), segment(a, s, 0x12, 100, ""), segment(a, s, 16, 100, "GET /"),
	} {
		i.Inspect(p)
	}
	now += holdLimit
	i.Tick()
	if !slices.ContainsFunc(s.released, func(v inspect.Verdict) bool { return v.Action == inspect.Drop }) {
		t.Errorf("released %+v", s.released)
	}
}
