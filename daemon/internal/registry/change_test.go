// SPDX-License-Identifier: Apache-2.0

//go:build netns

package registry_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// ruled is an inspector whose rules are a digest and needs for each container, and that
// settles each flow of UDP with its first packet. It remembers what was copied.
type ruled struct {
	mu      sync.Mutex
	labels  map[string]*inspect.Attachment
	digests map[string]string
	needs   map[string]inspect.Needs
	copied  map[string]int  // of the last datagram
	known   map[string]bool // whether its user was known
	short   int             // datagrams that were cut though the rules of their time need all
	whole   bool            // the rules of now need all
	panics  bool
}

func newRuled() *ruled {
	return &ruled{
		labels:  make(map[string]*inspect.Attachment),
		digests: map[string]string{"one": "a", "two": "a"},
		needs: map[string]inspect.Needs{
			"one": {Settles: true}, "two": {Settles: true, CopyRange: 64},
		},
		copied: make(map[string]int), known: make(map[string]bool),
	}
}

func (r *ruled) locked(do func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	do()
}

func (r *ruled) Attached(a *inspect.Attachment) {
	r.locked(func() { r.labels[a.ContainerID] = a })
}

func (r *ruled) Detached(a *inspect.Attachment) {
	r.locked(func() { delete(r.labels, a.ContainerID) })
}

func (r *ruled) NeedsOf(a *inspect.Attachment) (needs inspect.Needs) {
	r.locked(func() {
		if r.panics {
			panic("on purpose")
		}
		needs = r.needs[a.ContainerID]
	})
	return needs
}

func (r *ruled) DigestOf(a *inspect.Attachment) (digest string) {
	r.locked(func() { digest = r.digests[a.ContainerID] })
	return digest
}

func (r *ruled) Inspect(p *inspect.Packet) inspect.Verdict {
	f, _ := p.Flow()
	udp := f.Protocol == inspect.ProtoUDP
	r.locked(func() {
		if !udp {
			return
		}
		r.copied[p.Attachment.ContainerID] = len(p.Payload)
		r.known[p.Attachment.ContainerID] = p.UID >= 0
		if r.whole && len(p.Payload) < p.Length {
			r.short++
		}
	})
	return inspect.Verdict{Action: inspect.Accept, Settle: udp}
}

func (r *ruled) lastCopied(id string) (n int) {
	r.locked(func() { n = r.copied[id] })
	return n
}

// startRuled starts a daemon whose descriptors a supervisor holds and whose flows are
// settled.
func startRuled(t *testing.T, r *ruled) *daemon {
	t.Helper()
	d := startHeld(t, r)
	d.settle = hook.Settle{Generation: 1, Timeout: time.Hour, Size: 1024}
	d.restart()
	return d
}

// speaker is a pod with a flow to its peer.
type speaker struct {
	*daemon
	id   string
	to   *net.UDPConn
	from *net.UDPConn
}

const datagram = 500

func (d *daemon) speaker(id string) *speaker {
	d.t.Helper()
	t := d.t.(*testing.T)
	pod, peer := nstest.Pair(t)
	d.attach(id, pod, api.Fail)
	to := peer.ListenUDP(t, netip.AddrPortFrom(peer.IPv4(), 0).String())
	return &speaker{d, id, to, pod.DialUDP(t, to.LocalAddr().String())}
}

// inspected sends datagrams and returns how many of them were inspected.
func (s *speaker) inspected() uint64 {
	s.t.Helper()
	before := s.counters(s.id).Packets
	for range 4 {
		_, err := s.from.Write(make([]byte, datagram))
		nstest.Must(s.t, err)
		if receive(s.t.(*testing.T), s.to, 1, reply) != 1 {
			s.t.Fatal("a datagram did not arrive")
		}
	}
	return s.counters(s.id).Packets - before
}

func (s *speaker) want(when string, inspected uint64) {
	s.t.Helper()
	if got := s.inspected(); got != inspected {
		s.t.Errorf("%s: %d datagrams of %s were inspected, want %d", when, got, s.id, inspected)
	}
}

func (d *daemon) change(c inspect.Change) {
	d.t.Helper()
	nstest.Must(d.t, d.Change(&c))
}

// A change has the flows of those pods inspected again whose rules are other ones.
func TestChangeOfOnePod(t *testing.T) {
	r := newRuled()
	d := startRuled(t, r)
	one, two := d.speaker("one"), d.speaker("two")
	settled := func(when string) {
		t.Helper()
		one.want(when, 0)
		two.want(when, 0)
	}
	one.want("at first", 1)
	two.want("at first", 1)
	settled("settled")
	of := func(ids ...string) []*inspect.Attachment {
		all := []*inspect.Attachment{}
		r.locked(func() {
			for _, id := range ids {
				all = append(all, r.labels[id])
			}
		})
		return all
	}
	d.change(inspect.Change{Attachments: of("one", "two")})
	settled("by the same rules")
	d.change(inspect.Change{
		Attachments: of("one"), Apply: func() { r.locked(func() { r.digests["one"] = "b" }) },
	})
	one.want("of which the rules changed", 1)
	settled("after one changed")
	r.locked(func() { r.digests["two"] = "" })
	d.change(inspect.Change{})
	one.want("by the same rules again", 0)
	for range 2 {
		two.want("by rules that are not known", 1)
		d.change(inspect.Change{})
	}
	nstest.Must(t, d.Unsettle())
	one.want("after all were unsettled", 1)
	two.want("after all were unsettled", 1)
	d.change(inspect.Change{Attachments: []*inspect.Attachment{}})
	d.change(inspect.Change{Attachments: []*inspect.Attachment{{ContainerID: "foreign"}}})
	settled("after changes of none")
	d.Verify(t.Context())
	if n := d.EventCounts()[api.EventRepair]; n != 0 {
		t.Errorf("%d repairs", n)
	}
}

// Settled flows stay so over restarts by the same rules, in order or not, and by no
// others.
func TestSettledOverRestarts(t *testing.T) {
	r := newRuled()
	d := startRuled(t, r)
	one, two := d.speaker("one"), d.speaker("two")
	again := func(when string, wantOne, wantTwo uint64) {
		t.Helper()
		d.restart()
		one.daemon, two.daemon = d, d
		one.want(when, wantOne)
		two.want(when, wantTwo)
	}
	one.want("at first", 1)
	two.want("at first", 1)
	again("restarted", 0, 0)
	again("restarted twice", 0, 0)
	r.locked(func() { r.digests["one"] = "b" })
	again("with other rules for one", 1, 0)
	again("with the same rules again", 0, 0)
	r.locked(func() { r.digests["two"] = "b" })
	d.change(inspect.Change{})
	two.want("changed", 1)
	again("restarted after a change", 0, 0)
	r.locked(func() { r.digests["two"] = "" })
	again("with rules that are not known", 0, 1)
	again("with rules that are still not known", 0, 1)
	d.settleAfter = 3
	again("with another setting", 1, 1)
	d.settle.Timeout = 2 * time.Hour
	again("with another timeout", 1, 1)
	again("with the same timeout", 0, 1)
}

// Attachments that share a netns have one label; which of them it is may change with a
// restart.
func TestSettledOfSharedNetns(t *testing.T) {
	r := newRuled()
	d := startRuled(t, r)
	pod, peer := nstest.Pair(t)
	to := peer.ListenUDP(t, netip.AddrPortFrom(peer.IPv4(), 0).String())
	first := d.attach("one", pod, api.Fail)
	one := &speaker{d, "one", to, pod.DialUDP(t, to.LocalAddr().String())}
	one.want("at first", 1)
	d.attach("two", pod, api.Ignore)
	one.want("shared", 0)
	for range 4 {
		d.restart()
		one.want("restarted", 0)
	}
	r.locked(func() { r.digests["one"], r.digests["two"] = "b", "b" })
	d.change(inspect.Change{})
	one.want("changed", 1)
	for range 4 {
		d.restart()
		one.want("restarted after a change", 0)
	}
	nstest.Must(t, d.Detach(t.Context(), first.Key))
	one.id = "two"
	one.want("the other one's", 0)
	d.restart()
	one.want("the other one's, restarted", 0)
}

// A record without a generation, of an older daemon, keeps nothing; nor does one with a
// generation that there cannot be.
func TestSettledOfOtherRecords(t *testing.T) {
	r := newRuled()
	d := startRuled(t, r)
	one := d.speaker("one")
	one.want("at first", 1)
	for name, settled := range map[string]*state.Settled{
		"none": nil, "zero": {Rules: "a"}, "too many": {Generation: 64, Rules: "a"},
	} {
		nstest.Must(t, d.Suspend())
		nstest.Must(t, d.Registry.Close())
		contents, err := d.store.Load(nil)
		nstest.Must(t, err)
		rec := contents.Records[0]
		if rec.Settled == nil || rec.Settled.Generation == 0 || rec.Settled.Rules == "" {
			t.Errorf("recorded %+v", rec.Settled)
		}
		rec.Settled = settled
		nstest.Must(t, errors.Join(d.store.Save(rec), d.store.Close()))
		d.run()
		one.want(name, 1)
		one.want(name+", settled", 0)
	}
}

// How much is copied is each pod's own, and changes while packets flow.
func TestCopyRangeOfPods(t *testing.T) {
	r := newRuled()
	d := startRuled(t, r)
	one, two := d.speaker("one"), d.speaker("two")
	want := func(when string, wantOne, wantTwo int) {
		t.Helper()
		nstest.Must(t, d.Unsettle())
		one.inspected()
		two.inspected()
		if a, b := r.lastCopied("one"), r.lastCopied("two"); a != wantOne || b != wantTwo {
			t.Errorf("%s: copied %d and %d bytes, want %d and %d", when, a, b, wantOne, wantTwo)
		}
	}
	const all = datagram + 28
	want("at first", all, 64)
	r.locked(func() { r.needs["one"] = inspect.Needs{Settles: true, CopyRange: 40} })
	want("before the change", all, 64)
	d.change(inspect.Change{})
	want("narrower", 40, 64)
	d.restart()
	want("after a restart", 40, 64)
	r.locked(func() { r.needs["two"] = inspect.Needs{Settles: true, CopyRange: 1 << 16} })
	d.change(inspect.Change{})
	want("wider", 40, all)
	r.locked(func() { r.panics = true })
	d.change(inspect.Change{})
	want("with a panic", all, all)
	nstest.Must(t, d.Check(t.Context(), api.Key{ContainerID: "one", Ifname: "eth0"}))
}

// Whose a socket is is told of those pods whose rules ask for it, and of no other.
func TestSocketUIDOfPods(t *testing.T) {
	r := newRuled()
	d := startRuled(t, r)
	one, two := d.speaker("one"), d.speaker("two")
	want := func(when string, wantOne, wantTwo bool) {
		t.Helper()
		nstest.Must(t, d.Unsettle())
		one.inspected()
		two.inspected()
		r.locked(func() {
			if r.known["one"] != wantOne || r.known["two"] != wantTwo {
				t.Errorf("%s: known of one: %t, of two: %t", when, r.known["one"], r.known["two"])
			}
		})
	}
	want("at first", false, false)
	r.locked(func() { r.needs["one"] = inspect.Needs{Settles: true, SocketUID: true} })
	want("before the change", false, false)
	d.change(inspect.Change{})
	want("asked", true, false)
	d.restart()
	want("after a restart", true, false)
	r.locked(func() { r.needs["one"], r.needs["two"] = r.needs["two"], r.needs["one"] })
	d.change(inspect.Change{Apply: func() {
		one.inspected()
		r.locked(func() {
			if !r.known["one"] {
				t.Error("the rules of before still count, and it is not known any more")
			}
		})
	}})
	want("asked of the other", false, true)
	nstest.Must(t, d.Check(t.Context(), api.Key{ContainerID: "one", Ifname: "eth0"}))
}

// Flows are settled where the inspector settles them, and only there.
func TestSettlesOfPods(t *testing.T) {
	r := newRuled()
	r.needs["two"] = inspect.Needs{}
	d := startRuled(t, r)
	one, two := d.speaker("one"), d.speaker("two")
	one.want("settles", 1)
	two.want("does not settle", 4)
	r.locked(func() { r.needs["one"], r.needs["two"] = r.needs["two"], r.needs["one"] })
	d.change(inspect.Change{})
	one.want("no longer settles", 4)
	two.want("settles by now", 1)
	d.Verify(t.Context())
	if n := d.EventCounts()[api.EventRepair]; n != 0 {
		t.Errorf("%d repairs", n)
	}
	d.restart()
	two.daemon = d
	two.want("settled before a restart", 0)
}

// While packets flow, none is lost when more is copied, and no rule that needs all
// of a packet gets a part.
func TestWidenLosesNothing(t *testing.T) {
	r := newRuled()
	r.needs["one"] = inspect.Needs{CopyRange: 48}
	d := startRuled(t, r)
	pod, peer := nstest.Pair(t)
	d.attach("one", pod, api.Fail)
	to := peer.ListenUDP(t, netip.AddrPortFrom(peer.IPv4(), 0).String(), nstest.ReceiveBuffer(1<<24))
	from := pod.DialUDP(t, to.LocalAddr().String())
	ctx, stop := context.WithCancel(t.Context())
	var sending sync.WaitGroup
	sent := 0
	tick := time.NewTicker(100 * time.Microsecond)
	defer tick.Stop()
	sending.Go(func() {
		for ctx.Err() == nil {
			<-tick.C
			if _, err := from.Write(make([]byte, datagram)); err != nil {
				t.Error(err)
				return
			}
			sent++
		}
	})
	for i := range 20 {
		whole := i%2 == 0
		r.locked(func() {
			if !whole {
				r.whole = false
			}
			r.needs["one"] = inspect.Needs{CopyRange: map[bool]uint32{true: 0, false: 48}[whole]}
		})
		d.change(inspect.Change{Apply: func() { r.locked(func() { r.whole = whole }) }})
		before := d.counters("one").Packets
		nstest.Eventually(t, reply, "more packets", func() bool {
			return d.counters("one").Packets > before+20
		})
	}
	stop()
	sending.Wait()
	if got := receive(t, to, sent, reply); got != sent {
		t.Errorf("%d of %d datagrams arrived", got, sent)
	}
	var short int
	r.locked(func() { short = r.short })
	if c := d.counters("one"); c.Packets != uint64(sent) || c.Malformed != 0 || short != 0 {
		t.Errorf("of %d datagrams %d were inspected, %d malformed, %d cut", sent, c.Packets,
			c.Malformed, short)
	}
}

// Pods come and go beside changes.
func TestChangesBesideCalls(t *testing.T) {
	r := newRuled()
	d := startRuled(t, r)
	var calling sync.WaitGroup
	for i := range 4 {
		pod, _ := nstest.Pair(t)
		calling.Go(func() {
			req := request(fmt.Sprint("pod", i), pod, api.Fail)
			for range 5 {
				_, err := d.Attach(t.Context(), req, nil)
				if err := errors.Join(err, d.Detach(t.Context(), req.Key)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { calling.Wait(); close(done) }()
	for n := 0; ; n++ {
		r.locked(func() {
			for i := range 4 {
				id := fmt.Sprint("pod", i)
				r.digests[id] = fmt.Sprint(n)
				r.needs[id] = inspect.Needs{Settles: n%3 > 0, CopyRange: uint32(64 << (n % 2))}
			}
		})
		d.change(inspect.Change{})
		select {
		case <-done:
			d.wantNothing()
			return
		default:
		}
	}
}
