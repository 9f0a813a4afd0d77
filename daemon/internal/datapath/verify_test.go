// SPDX-License-Identifier: Apache-2.0

//go:build netns

package datapath

import (
	"cmp"
	"errors"
	"net/netip"
	"os"
	"sync"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/fdstore/fdstoretest"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// What is taken away is found by both ways to look, and is there again when it was
// repaired.
func TestFaultsAreRepaired(t *testing.T) {
	for name, breaks := range map[string]func(*Datapath) error{
		"queue is unbound": func(d *Datapath) error { return d.queues[0].queue.Unbind() },
		"hook is disarmed": func(d *Datapath) error { return d.handle.Disarm() },
		"hook is removed":  func(d *Datapath) error { return d.handle.Remove() },
		"nothing is wrong": nil,
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t, inspect.AcceptAll{}, nil)
			pod, peer := nstest.Pair(t)
			d := n.up(pod)
			if breaks != nil {
				nstest.Must(t, breaks(d))
				if d.FindFault() == nil || d.Verify(d.Netns()).Fault == nil {
					t.Fatal("nothing is found")
				}
			}
			nstest.Must(t, d.Repair(d.Netns()))
			if found := d.Verify(d.Netns()); found.Fault != nil || found.ForeignReader {
				t.Errorf("after the repair: %+v", found)
			}
			before := d.Counters().Packets
			wantReplies(t, peer, pod, 1)
			if d.Counters().Packets == before {
				t.Error("packets pass uninspected after the repair")
			}
			nstest.Must(t, d.Down(false))
			n.wantNothing(pod, peer)
		})
	}
}

// What another program has is not repaired while it has it.
func TestRepairBesideForeignReader(t *testing.T) {
	n := start(t, inspect.AcceptAll{}, nil)
	pod, _ := nstest.Pair(t)
	d := n.up(pod)
	nstest.Must(t, d.queues[0].queue.Unbind())
	foreign := n.foreignQueue(pod, nfqueue.DefaultNumber)
	if err := d.Repair(d.Netns()); !errors.Is(err, nfqueue.ErrInUse) {
		t.Errorf("repair: %v, want %v", err, nfqueue.ErrInUse)
	}
	nstest.Must(t, foreign.Close())
	nstest.Must(t, d.Repair(d.Netns()))
	nstest.Must(t, d.FindFault())
	nstest.Must(t, d.Down(false))
}

// A handle that cannot be armed any more is replaced.
func TestHookIsReopened(t *testing.T) {
	n := start(t, inspect.AcceptAll{}, nil)
	b := &brokenHook{Hook: n.hook}
	n.hook = b
	pod, peer := nstest.Pair(t)
	d := n.up(pod)
	old := d.handle
	nstest.Must(t, old.Remove())
	b.arm = errors.New("broken")
	if err := d.Repair(d.Netns()); !errors.Is(err, b.arm) {
		t.Errorf("repair: %v, want %v", err, b.arm)
	}
	b.arm, b.open = nil, errors.New("does not open")
	nstest.Must(t, d.handle.Remove())
	d.handle = &deadHandle{d.handle}
	if err := d.Repair(d.Netns()); !errors.Is(err, b.open) {
		t.Errorf("repair: %v, want %v", err, b.open)
	}
	b.open = nil
	nstest.Must(t, d.Repair(d.Netns()))
	nstest.Must(t, d.FindFault())
	wantReplies(t, peer, pod, 1)
	nstest.Must(t, d.Down(false))
	n.wantNothing(pod, peer)
}

// deadHandle cannot be armed.
type deadHandle struct{ hook.Handle }

func (deadHandle) Arm(hook.Selector) (warning, err error) { return nil, errors.New("dead") }

// module is another kind of hook.
type module struct{ hook.Hook }

func (module) Kind() hook.Kind { return hook.Module }

func (m module) Open(ns *netns.NetNS, inherited *os.File) (hook.Handle, error) {
	h, err := m.Hook.Open(ns, inherited)
	return moduleHandle{h}, err
}

// moduleHandle needs no descriptor to stay, as the module.
type moduleHandle struct{ hook.Handle }

func (moduleHandle) File() *os.File { return nil }

func TestReplaceHook(t *testing.T) {
	s := fdstoretest.New(t)
	n := start(t, inspect.AcceptAll{}, nil)
	n.restart(s)
	pod, peer := nstest.Pair(t)
	nft := n.hook
	n.hook = module{nft}
	d := n.up(pod)
	if changed, err := d.ReplaceHook(n.hook); changed || err != nil {
		t.Errorf("by the same kind: changed %t, %v", changed, err)
	}
	s.Await(1)
	nstest.Must(t, d.handle.Remove())
	for _, b := range []*brokenHook{
		{Hook: nft, open: errors.New("does not open")}, {Hook: nft, arm: errors.New("is not armed")},
	} {
		want := cmp.Or(b.open, b.arm)
		if changed, err := d.ReplaceHook(b); changed || !errors.Is(err, want) {
			t.Errorf("by a broken one: changed %t, %v; want %v", changed, err, want)
		}
	}
	changed, err := d.ReplaceHook(nft)
	if !changed || err != nil || d.Hook() != hook.NFTables {
		t.Errorf("changed %t to %s, %v", changed, d.Hook(), err)
	}
	nstest.Must(t, d.FindFault())
	s.Await(2)
	wantReplies(t, peer, pod, 1)
	nstest.Must(t, d.Down(false))
	s.Await(0)
}

// What waits and what found no room is known after a verification, and is counted
// once.
func TestSampleQueues(t *testing.T) {
	held, release := make(chan struct{}, 1), make(chan struct{})
	n := start(t, inspect.Func(func(*inspect.Packet) inspect.Verdict {
		select {
		case held <- struct{}{}:
		default:
		}
		<-release
		return inspect.Verdict{Action: inspect.Accept}
	}), func(n *node) { n.options.Queue.Length = 2 })
	free := sync.OnceFunc(func() { close(release) })
	t.Cleanup(free)
	pod, peer := nstest.Pair(t)
	d := n.up(pod)
	if s := d.SampleQueues(); s != (Sample{Length: 2}) {
		t.Errorf("idle: %+v", s)
	}
	to := peer.ListenUDP(t, netip.AddrPortFrom(peer.IPv4(), 0).String())
	from := pod.DialUDP(t, to.LocalAddr().String())
	for range 5 {
		_, _ = from.Write([]byte("x")) // the queue drops some
	}
	<-held
	for _, dropped := range []uint64{3, 0} {
		nstest.Must(t, d.FindFault())
		want := Sample{Waiting: 2, Length: 2, QueueDropped: dropped}
		if s := d.SampleQueues(); s != want {
			t.Errorf("full: %+v, want %+v", s, want)
		}
	}
	free()
	nstest.Must(t, d.Down(false))
}

// Of a pod's interfaces, the traffic that the readers had meets the hook.
func TestCompareTraffic(t *testing.T) {
	for name, protocols := range map[string][]uint8{"all": nil, "tcp": {inspect.ProtoTCP}} {
		t.Run(name, func(t *testing.T) {
			n := start(t, inspect.AcceptAll{}, func(n *node) { n.selector.Protocols = protocols })
			pod, peer := nstest.Pair(t)
			d := n.up(pod)
			for range 3 {
				traffic, err := netns.TrafficOf(d.Netns(), []string{"eth0"})
				nstest.Must(t, err)
				c, err := d.CompareTraffic(d.Netns(), traffic)
				if err != nil || c.Past {
					t.Errorf("%+v, %v", c, err)
				}
				wantReplies(t, peer, pod, 120)
			}
			nstest.Must(t, d.Down(false))
		})
	}
}
