// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nft_test

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/hook/nft"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/internal/fdcontrol"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// fixture is a pod whose packets wait in a queue that outlives all handles.
type fixture struct {
	*testing.T
	hook      *nft.Hook
	pod, peer *nstest.NetNS
	ns        *netns.NetNS
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	h, err := nft.New()
	nstest.Must(t, err)
	f := &fixture{T: t, hook: h}
	f.pod, f.peer = nstest.Pair(t)
	f.ns, err = netns.Open(f.pod.Path())
	nstest.Must(t, err)
	t.Cleanup(func() { nstest.Must(t, f.ns.Close()) })
	return f
}

func (f *fixture) open(inherited *os.File) hook.Handle {
	f.Helper()
	handle, err := f.hook.Open(f.ns, inherited)
	nstest.Must(f.T, err)
	return handle
}

// keep returns what a descriptor store holds of a handle whose process is gone.
func (f *fixture) keep(handle hook.Handle) *os.File {
	f.Helper()
	kept, err := fdcontrol.Duplicate(handle.File(), "kept")
	nstest.Must(f.T, err)
	nstest.Must(f.T, handle.Close())
	return kept
}

// whileWaiting lets datagrams wait while change happens, accepts them and
// expects all to arrive.
func (f *fixture) whileWaiting(change func()) {
	f.Helper()
	const n = 50
	q, err := nfqueue.Open(f.ns, nfqueue.Config{
		Number: 80, Length: nfqueue.DefaultLength,
		CopyRange: nfqueue.MaxCopyRange, ReceiveBuffer: nfqueue.DefaultReceiveBuffer,
	})
	nstest.Must(f.T, err)
	defer func() { nstest.Must(f.T, q.Close()) }()
	nstest.Must(f.T, q.Bind())
	to := f.peer.ListenUDP(f.T, netip.AddrPortFrom(f.peer.IPv4(), 0).String())
	from := f.pod.DialUDP(f.T, to.LocalAddr().String())
	for i := range n {
		_, err := fmt.Fprint(from, i)
		nstest.Must(f.T, err)
	}
	change()
	stat, _, err := q.Stat(f.ns)
	nstest.Must(f.T, err)
	if stat.Waiting != n {
		f.Errorf("%d of %d packets still wait", stat.Waiting, n)
	}
	nstest.Must(f.T, q.AnswerAll(stat.Sequence, true))
	buf := make([]byte, 64)
	for i := range n {
		nstest.Must(f.T, to.SetReadDeadline(time.Now().Add(nstest.Patient(time.Minute))))
		if _, err := to.Read(buf); err != nil {
			f.Fatalf("%d of %d waiting packets arrived", i, n)
		}
	}
}

// generation returns what the kernel has, without its counters; rules that are
// made again get other handles.
func (f *fixture) generation() string {
	f.Helper()
	return f.pod.Run(f.T, "nft", "-a", "-s", "list", "ruleset")
}

// A successor goes on with the socket and loses no waiting packet by it.
func TestInherit(t *testing.T) {
	f := newFixture(t)
	selector := hook.Selector{Queue: 80, Directions: hook.AllDirections}
	settling := selector
	settling.Settle = hook.Settle{Generation: 1, Timeout: time.Minute, Size: 10}
	bypass := selector
	bypass.Bypass = true
	handle := f.open(nil)
	mustArm(t, handle, selector)
	for _, next := range []hook.Selector{selector, bypass, settling, settling, bypass} {
		f.whileWaiting(func() {
			kept := f.keep(handle)
			handle = f.open(kept)
			if warning := warned(t, handle, next); warning != nil {
				t.Errorf("%+v: %v", next, warning)
			}
		})
		nstest.Must(t, handle.Verify(f.ns, next))
	}
	// It differs in nothing but the queue expression.
	if err := handle.Verify(f.ns, selector); !errors.Is(err, hook.ErrNotArmed) {
		t.Errorf("verify without bypass: %v, want %v", err, hook.ErrNotArmed)
	}
	closeHook(t, handle)
	if left := f.pod.Run(t, "nft", "list", "ruleset"); left != "" {
		t.Errorf("left in the netns: %s", left)
	}
}

// A successor that wants what is there changes nothing; one that settles flows
// looks at all of them again, unless it keeps them.
func TestInheritUnchanged(t *testing.T) {
	f := newFixture(t)
	selector := hook.Selector{Queue: 80, Directions: hook.AllDirections}
	handle := f.open(nil)
	mustArm(t, handle, selector)
	before := f.generation()
	handle = f.open(f.keep(handle))
	mustArm(t, handle, selector)
	if after := f.generation(); after != before {
		t.Errorf("rules were %s, are %s", before, after)
	}
	selector.Settle = hook.Settle{Generation: 1, Timeout: time.Minute, Size: 10}
	mustArm(t, handle, selector)
	before = f.generation()
	handle = f.open(f.keep(handle))
	mustArm(t, handle, selector)
	if after := f.generation(); after == before {
		t.Error("a successor left settled flows as they were")
	}
	before = f.generation()
	handle = f.open(f.keep(handle))
	selector.KeepSettled = true
	mustArm(t, handle, selector)
	if after := f.generation(); after != before {
		t.Errorf("a successor that keeps them has rules %s, they were %s", after, before)
	}
	closeHook(t, handle)
}

func TestInheritUnfit(t *testing.T) {
	f := newFixture(t)
	peer, err := netns.Open(f.peer.Path())
	nstest.Must(t, err)
	defer peer.Close()
	elsewhere, err := f.hook.Open(peer, nil)
	nstest.Must(t, err)
	route, err := f.ns.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	nstest.Must(t, err)
	null, err := os.Open(os.DevNull)
	nstest.Must(t, err)
	for want, file := range map[string]*os.File{
		"socket of netns":      f.keep(elsewhere),
		"socket protocol is 0": os.NewFile(uintptr(route), "route"),
		"socket operation":     null,
	} {
		name := file.Name()
		_, err := f.hook.Open(f.ns, file)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
		if err := file.Close(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s was left open: %v", name, err)
		}
	}
}

// A program in the netns that owns tables of the hook's names does not keep the hook
// from being armed unless it has both, and then only as long.
func TestSquatters(t *testing.T) {
	f := newFixture(t)
	selector := hook.Selector{Queue: 80, Directions: hook.AllDirections}
	first, second := f.squat("nsqueue"), f.squat("nsqueue-2")
	handle := f.open(nil)
	if _, err := handle.Arm(selector); !errors.Is(err, hook.ErrForeign) {
		t.Fatalf("armed beside both: %v, want %v", err, hook.ErrForeign)
	}
	nstest.Must(t, second.Close())
	if warning := warned(t, handle, selector); !errors.Is(warning, hook.ErrForeign) {
		t.Errorf("warning %v, want %v", warning, hook.ErrForeign)
	}
	nstest.Must(t, handle.Verify(f.ns, selector))
	// A successor finds the table of the second name.
	f.whileWaiting(func() {
		handle = f.open(f.keep(handle))
		mustArm(t, handle, selector)
		nstest.Must(t, first.Close())
		if warning := warned(t, handle, selector); warning != nil {
			t.Errorf("warning after the first name became free: %v", warning)
		}
	})
	nstest.Must(t, handle.Verify(f.ns, selector))
	closeHook(t, handle)
	if left := f.pod.Run(t, "nft", "list", "ruleset"); left != "" {
		t.Errorf("left in the netns: %s", left)
	}
}

// squat opens a socket that owns a table of the name, as any process with
// CAP_NET_ADMIN in the netns can.
func (f *fixture) squat(name string) io.Closer {
	f.Helper()
	socket, err := nft.MakeOwnedTable(f.ns, name)
	nstest.Must(f.T, err)
	return socket
}

// A table of the hook's name without an owner is the hook's, whatever is in it.
func TestUnownedJunk(t *testing.T) {
	f := newFixture(t)
	f.pod.Run(t, "nft", `table inet nsqueue {
		set accept4 { type ipv4_addr; }
		chain input { type filter hook input priority 0; policy drop; }
		chain mine { ip saddr @accept4 accept; }
	}`)
	selector := hook.Selector{Queue: 80, Directions: hook.AllDirections}
	handle := f.open(nil)
	mustArm(t, handle, selector)
	nstest.Must(t, handle.Verify(f.ns, selector))
	if list := f.pod.Run(t, "nft", "list", "ruleset"); strings.Contains(list, "mine") {
		t.Errorf("left: %s", list)
	}
	closeHook(t, handle)
}

// Without the socket, the queue alone was kept.
func TestTakeOverKeepsWaiting(t *testing.T) {
	f := newFixture(t)
	if !f.hook.Persistent() {
		return // there is no table
	}
	selector := hook.Selector{Queue: 80, Directions: hook.AllDirections}
	handle := f.open(nil)
	mustArm(t, handle, selector)
	f.whileWaiting(func() {
		nstest.Must(t, handle.Close())
		handle = f.open(nil)
		mustArm(t, handle, selector)
	})
	nstest.Must(t, handle.Verify(f.ns, selector))
	closeHook(t, handle)
}
