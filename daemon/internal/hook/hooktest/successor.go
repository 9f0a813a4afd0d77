// SPDX-License-Identifier: Apache-2.0

package hooktest

import (
	"os"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/internal/fdcontrol"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// succeed puts the handle of another process in place of the fixture's.
func (f *fixture) succeed(h hook.Hook, s hook.Selector) {
	f.Helper()
	var kept *os.File
	if file := f.handle.File(); file != nil {
		var err error
		kept, err = fdcontrol.Duplicate(file, "kept")
		nstest.Must(f.T, err)
	}
	nstest.Must(f.T, f.handle.Close())
	var err error
	f.handle, err = h.Open(f.ns, kept)
	nstest.Must(f.T, err)
	f.arm(s)
	nstest.Must(f.T, f.handle.Verify(f.ns, s))
}

func testKeepSettled(t *testing.T, h hook.Hook) {
	f := &fixture{T: t}
	f.pod, f.peer = nstest.Pair(t)
	f.ns = open(t, f.pod)
	var err error
	f.handle, err = h.Open(f.ns, nil)
	nstest.Must(t, err)
	t.Cleanup(func() {
		awaitDropped(t, f.handle)
		closeHook(t, f.handle)
	})
	s := f.armSettling(settling(1), false)
	k := f.talk(f.peer.IPv4())
	k.out(1)
	want := 1
	for _, next := range []struct {
		what       string
		generation uint8
		keep       bool
		again      int // packets that are queued of three
	}{
		{"kept", 1, true, 0},
		{"kept twice", 1, true, 0},
		{"kept under another generation", 2, true, 3}, // which verdicts do not ask for
		{"kept, and none settled", 1, true, 1},
		{"kept again", 1, true, 0},
		{"not kept", 1, false, 1},
	} {
		selector := settling(next.generation)
		selector.KeepSettled = next.keep
		f.succeed(h, selector)
		if got := k.out(1) + k.out(2); got != 3 {
			t.Errorf("%s: %d of 3 datagrams arrived", next.what, got)
		}
		want += next.again
		s.want(t, next.what, inspect.ProtoUDP, want)
	}
	// Nothing has seen the connections that were opened meanwhile.
	nstest.Must(t, f.handle.Disarm())
	selector := settling(1)
	selector.KeepSettled = true
	f.succeed(h, selector)
	k.out(1)
	k.out(2)
	s.want(t, "kept after it was disarmed", inspect.ProtoUDP, want+1)
}
