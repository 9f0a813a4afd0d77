// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// shelf takes the daemon's place: it keeps packets until they are released.
type shelf struct {
	verdicts map[uint64]inspect.Verdict
	released []uint64
	calls    int
}

func (s *shelf) Defer(p *inspect.Packet, _ time.Duration) (inspect.Deferred, bool) {
	return inspect.NewDeferred(s, uint64(p.ID)), true
}

func (s *shelf) Release(ticket uint64, v inspect.Verdict) bool {
	s.calls++
	return s.put(ticket, v)
}

func (s *shelf) ReleaseAll(held []inspect.Deferred, verdicts []inspect.Verdict) (n int) {
	s.calls++
	for i, d := range held {
		if s.put(d.Ticket(), verdicts[i]) {
			n++
		}
	}
	return n
}

func (s *shelf) put(ticket uint64, v inspect.Verdict) bool {
	if _, again := s.verdicts[ticket]; again {
		return false
	}
	s.verdicts[ticket] = v
	s.released = append(s.released, ticket)
	return true
}

func newShelf() *shelf { return &shelf{verdicts: make(map[uint64]inspect.Verdict)} }

// pairs is an inspector that lets packets pass two by two.
type pairs struct{ first inspect.Deferred }

func (*pairs) Needs() inspect.Needs { return inspect.Needs{Defers: true} }

func (i *pairs) Inspect(p *inspect.Packet) inspect.Verdict {
	if i.first.Release(inspect.Verdict{Action: inspect.Accept}) {
		return inspect.Verdict{Action: inspect.Accept}
	}
	var ok bool
	if i.first, ok = p.Defer(50 * time.Millisecond); !ok {
		return inspect.Verdict{} // too many: the failure policy decides
	}
	return inspect.Verdict{Action: inspect.Defer}
}

// Tests of an inspector that defers packets keep them.
func ExamplePacket_Defer() {
	var i inspect.Declarer = &pairs{}
	s := newShelf()
	for id := range uint32(4) {
		v := i.Inspect(&inspect.Packet{ID: id, Deferrer: s})
		fmt.Println(id, v.Action, s.released)
	}
	// Output:
	// 0 defer []
	// 1 accept [0]
	// 2 defer [0]
	// 3 accept [0 2]
}

func TestDeferWithoutDeferrer(t *testing.T) {
	d, ok := (&inspect.Packet{}).Defer(time.Second)
	if ok || d != (inspect.Deferred{}) || d.Release(inspect.Verdict{}) {
		t.Errorf("deferred as %v, %t", d, ok)
	}
}

// Packets of several readers and of none are released in order, those that follow
// one another together.
func TestReleaseAll(t *testing.T) {
	a, b := newShelf(), newShelf()
	held := []inspect.Deferred{
		inspect.NewDeferred(a, 3), inspect.NewDeferred(a, 1),
		{},
		inspect.NewDeferred(b, 1),
		inspect.NewDeferred(a, 3), inspect.NewDeferred(a, 2),
	}
	verdicts := make([]inspect.Verdict, len(held))
	for i := range verdicts {
		verdicts[i].Mark = uint32(i)
	}
	if n := inspect.ReleaseAll(held, verdicts); n != 4 {
		t.Errorf("%d released", n)
	}
	if !slices.Equal(a.released, []uint64{3, 1, 2}) || !slices.Equal(b.released, []uint64{1}) ||
		a.verdicts[2].Mark != 5 || b.verdicts[1].Mark != 3 || a.calls != 2 || b.calls != 1 {
		t.Errorf("released %+v, %+v", a, b)
	}
}
