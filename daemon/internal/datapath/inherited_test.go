// SPDX-License-Identifier: Apache-2.0

//go:build netns

package datapath

import (
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
	"github.com/nsqueue/nsqueue/daemon/internal/fdstore/fdstoretest"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// next ends the process in order and returns what the one after it inherits of the
// pod, whose datapath is read again.
func (n *node) next(s *fdstoretest.Supervisor, d *Datapath) (*Datapath, int) {
	n.t.Helper()
	cookie := d.Netns().ID().Cookie
	nstest.Must(n.t, errors.Join(n.Stop(), d.Close()))
	n.restart(s)
	all, err := Classify(n.inherited, nil, n.options.Log)
	nstest.Must(n.t, err)
	i := all[cookie]
	if len(all) != 1 || i == nil || i.Identity().Cookie != cookie || i.Strict() == n.selector.Bypass {
		n.t.Fatalf("inherited %+v", all)
	}
	next, orphans, err := n.Inherit(i, n.selector, &inspect.Attachment{}, noPrograms, true)
	nstest.Must(n.t, err)
	return next, orphans
}

// What waits while no process reads is inspected by the next one, by whatever
// number of queues that has.
func TestInherit(t *testing.T) {
	s := fdstoretest.New(t)
	n := start(t, inspect.AcceptAll{}, func(n *node) { n.selector.Queues = 4 })
	n.restart(s)
	pod, peer := nstest.Pair(t)
	d := n.up(pod)
	s.Await(5)
	to := peer.ListenUDP(t, netip.AddrPortFrom(peer.IPv4(), 0).String())
	for _, queues := range []uint16{4, 2, 6, 1} {
		nstest.Must(t, n.Stop())
		_, err := pod.DialUDP(t, to.LocalAddr().String()).Write([]byte("waits"))
		nstest.Must(t, err)
		n.selector.Queues = queues
		var orphans int
		d, orphans = n.next(s, d)
		if orphans != 0 {
			t.Errorf("%d orphans of a process that answered all", orphans)
		}
		nstest.Must(t, to.SetReadDeadline(time.Now().Add(patience)))
		_, err = to.Read(make([]byte, 16))
		nstest.Must(t, err)
		if d.Counters().Packets == 0 {
			t.Error("what waited was not inspected")
		}
		nstest.Must(t, d.Up(n.hook, n.selector, &inspect.Attachment{}))
		nstest.Must(t, d.FindFault())
		s.Await(int(queues) + 1)
		wantReplies(t, peer, pod, 1)
	}
	nstest.Must(t, d.Down(false))
	s.Await(0)
	n.wantNothing(pod, peer)
}

// The netns in which a packet waits comes first, with all that is of it.
func TestWaitingFirst(t *testing.T) {
	s := fdstoretest.New(t)
	n := start(t, inspect.AcceptAll{}, nil)
	n.restart(s)
	idle, _ := nstest.Pair(t)
	pod, peer := nstest.Pair(t)
	datapaths := []*Datapath{n.up(idle), n.up(pod)}
	cookie := datapaths[1].Netns().ID().Cookie
	nstest.Must(t, errors.Join(n.Stop(), datapaths[0].Close(), datapaths[1].Close()))
	n.restart(s)
	if parts := WaitingFirst(n.inherited); len(parts[0]) != 0 || len(parts[1]) != 4 {
		t.Errorf("%d descriptors first, though no packet waits", len(parts[0]))
	}
	to := peer.ListenUDP(t, netip.AddrPortFrom(peer.IPv4(), 0).String())
	_, err := pod.DialUDP(t, to.LocalAddr().String()).Write([]byte("waits"))
	nstest.Must(t, err)
	parts := WaitingFirst(n.inherited)
	if len(parts[0]) != 2 || len(parts[1]) != 2 {
		t.Errorf("%d descriptors first and %d then, want two each", len(parts[0]), len(parts[1]))
	}
	for i, part := range parts {
		all, err := Classify(part, nil, n.options.Log)
		nstest.Must(t, err)
		if len(all) != 1 || (all[cookie] != nil) != (i == 0) {
			t.Errorf("part %d has %d netns", i, len(all))
		}
		for _, left := range all {
			d, _, err := n.Inherit(left, n.selector, &inspect.Attachment{}, noPrograms, true)
			nstest.Must(t, err)
			nstest.Must(t, d.DownUnused(n.hook))
		}
	}
}

// What was looked at ahead is asked again where it may have changed.
func TestLooks(t *testing.T) {
	s := fdstoretest.New(t)
	n := start(t, inspect.AcceptAll{}, nil)
	n.restart(s)
	pod, _ := nstest.Pair(t)
	d := n.up(pod)
	cookie := d.Netns().ID().Cookie
	other, _ := nstest.Pair(t)
	gone := n.up(other)
	s.Await(4)
	before := openFiles(t)
	copies := s.Copies()
	var ahead Looks
	nstest.Must(t, ahead.Look(copies))
	nstest.Must(t, gone.Down(false))
	s.Await(2)
	var left []fdstore.Descriptor
	for _, c := range copies {
		if name, err := fdstore.ParseName(c.Name); err == nil && name.Cookie == cookie {
			left = append(left, c)
			continue
		}
		nstest.Must(t, c.File.Close())
	}
	nstest.Must(t, d.queues[0].queue.Unbind())
	ahead.Doubt()
	all, err := Classify(left, &ahead, n.options.Log)
	nstest.Must(t, err)
	i := all[cookie]
	if len(all) != 1 || len(i.queues) != 0 || i.table == nil || !i.untidy {
		t.Errorf("%d netns, of which one has %+v", len(all), i)
	}
	nstest.Must(t, errors.Join(ahead.Close(), i.closeAll()))
	nstest.Eventually(t, patience, "nothing is left open", func() bool {
		return openFiles(t) <= before-2 // those of the other netns
	})
	nstest.Must(t, d.Down(false))
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	nstest.Must(t, err)
	return len(entries)
}

// What is inherited and not wanted any more is taken down, with its hook.
func TestDownUnused(t *testing.T) {
	for name, broken := range map[string]error{"": nil, "broken": errors.New("broken")} {
		t.Run("hook "+name, func(t *testing.T) {
			s := fdstoretest.New(t)
			n := start(t, inspect.AcceptAll{}, nil)
			n.restart(s)
			pod, peer := nstest.Pair(t)
			d, _ := n.next(s, n.up(pod))
			err := d.DownUnused(&brokenHook{Hook: n.hook, open: broken})
			if !errors.Is(err, broken) {
				t.Errorf("down: %v, want %v", err, broken)
			}
			s.Await(0)
			if broken == nil {
				n.wantNothing(pod, peer)
			}
		})
	}
}

// What is handed over and is not ours is closed, what is surplus too, and a name of
// a newer version is an error.
func TestClassify(t *testing.T) {
	s := fdstoretest.New(t)
	n := start(t, inspect.AcceptAll{}, nil)
	n.restart(s)
	pod, _ := nstest.Pair(t)
	d := n.up(pod)
	cookie := d.Netns().ID().Cookie
	s.Await(2)
	null := func() *os.File {
		f, err := os.Open(os.DevNull)
		nstest.Must(t, err)
		return f
	}
	name := fdstore.Name{Kind: fdstore.Queue, Cookie: cookie, Strict: true}.String()
	descriptors := append(s.Copies(), s.Copies()...) // each twice
	descriptors = append(descriptors, fdstore.Descriptor{Name: name, File: null()})
	other := fdstore.Name{Kind: fdstore.Queue, Cookie: cookie + 1}.String()
	descriptors = append(descriptors, fdstore.Descriptor{Name: other, File: s.Copies()[0].File})
	all, err := Classify(descriptors, nil, n.options.Log)
	nstest.Must(t, err)
	i := all[cookie]
	if len(all) != 1 || len(i.queues) != 1 || i.table == nil || !i.untidy || !i.strict {
		t.Errorf("%d netns, of which one has %+v", len(all), i)
	}
	f := null()
	defer f.Close()
	_, err = Classify([]fdstore.Descriptor{{Name: "z1i", File: f}}, nil, n.options.Log)
	if !errors.Is(err, fdstore.ErrForeignName) {
		t.Errorf("a newer name: %v, want %v", err, fdstore.ErrForeignName)
	}
	nstest.Must(t, errors.Join(i.ns.Close(), i.takeTable().Close(),
		i.takeQueue(nfqueue.DefaultNumber).Close()))
	nstest.Must(t, d.Down(false))
}

func noPrograms() []LeftProgram { return nil }
