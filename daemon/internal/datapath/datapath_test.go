// SPDX-License-Identifier: Apache-2.0

//go:build netns

package datapath

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
	"github.com/nsqueue/nsqueue/daemon/internal/fdstore/fdstoretest"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/hook/nft"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/test/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

const (
	patience = time.Minute // only for what hangs
	silence  = 200 * time.Millisecond
)

// node is a factory, what its datapaths are armed with, and what it was told.
type node struct {
	*Factory

	t         *testing.T
	options   Options
	hook      hook.Hook
	selector  hook.Selector
	inherited []fdstore.Descriptor

	mu       sync.Mutex
	panics   []string
	overruns int
}

// start returns a node; change may be nil.
func start(t *testing.T, i inspect.Inspector, change func(*node)) *node {
	t.Helper()
	h, err := nft.New()
	nstest.Must(t, err)
	n := &node{t: t, hook: h, selector: hook.Selector{
		Queue: nfqueue.DefaultNumber, Directions: hook.AllDirections,
	}}
	n.options = Options{
		Queue: nfqueue.Config{
			Length: nfqueue.DefaultLength, CopyRange: nfqueue.MaxCopyRange,
			ReceiveBuffer: nfqueue.DefaultReceiveBuffer,
		},
		BufferTotal: 1 << 30, MarkMask: 0xff000000, Store: &fdstore.Store{},
		Inspector: func() inspect.Inspector { return i },
		Observer:  func() nfqueue.Observer { return nil },
		Panicked: func(_ *nfqueue.Reader, said any) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.panics = append(n.panics, nfqueue.PanicText(said))
		},
		Overran: func(*nfqueue.Reader) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.overruns++
		},
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	if change != nil {
		change(n)
	}
	n.run()
	t.Cleanup(func() { nstest.Must(t, n.Close()) })
	return n
}

func (n *node) run() {
	n.t.Helper()
	var err error
	n.Factory, err = NewFactory(n.options)
	nstest.Must(n.t, err)
}

// restart is an orderly end and a new process, which is handed what s holds.
func (n *node) restart(s *fdstoretest.Supervisor) {
	n.t.Helper()
	nstest.Must(n.t, errors.Join(n.Stop(), n.Close()))
	n.options.Store, n.inherited = s.Connect()
	n.run()
}

func (n *node) open(pod *nstest.NetNS) *netns.NetNS {
	n.t.Helper()
	ns, err := netns.Open(pod.Path())
	nstest.Must(n.t, err)
	n.t.Cleanup(func() { _ = ns.Close() })
	return ns
}

// up brings up the datapath of a pod; it lives as long as the test.
func (n *node) up(pod *nstest.NetNS) *Datapath {
	n.t.Helper()
	d, err := n.New(n.open(pod), n.selector)
	nstest.Must(n.t, err)
	nstest.Must(n.t, d.Up(n.hook, n.selector, &inspect.Attachment{}))
	nstest.Must(n.t, d.FindFault())
	return d
}

// wantNothing expects an untouched netns whose packets pass.
func (n *node) wantNothing(pod, peer *nstest.NetNS) {
	n.t.Helper()
	if rules := pod.Run(n.t, "nft", "list", "ruleset"); rules != "" {
		n.t.Errorf("left in the netns: %s", rules)
	}
	bound, err := nfqueue.Stats(n.open(pod))
	nstest.Must(n.t, err)
	if len(bound) != 0 {
		n.t.Errorf("left bound: %v", bound)
	}
	wantReplies(n.t, peer, pod, 1)
}

func wantReplies(t *testing.T, from, to *nstest.NetNS, count int) {
	t.Helper()
	if got := from.Ping(t, to.IPv4(), count, patience); got != count {
		t.Errorf("%d of %d replies", got, count)
	}
}

// foreignQueue has another program read a queue in the pod's netns.
func (n *node) foreignQueue(pod *nstest.NetNS, number uint16) *nfqueue.Queue {
	n.t.Helper()
	q, err := nfqueue.Open(n.open(pod), nfqueue.Config{
		Number: number, Length: 1, CopyRange: 1, ReceiveBuffer: 1 << 16,
	})
	nstest.Must(n.t, err)
	nstest.Must(n.t, q.Bind())
	return q
}

func TestUpInspectsAndDownLeavesNothing(t *testing.T) {
	for name, deserted := range map[string]bool{"lossless": false, "deserted": true} {
		t.Run(name, func(t *testing.T) {
			n := start(t, inspect.AcceptAll{}, func(n *node) { n.selector.Queues = 2 })
			pod, peer := nstest.Pair(t)
			d := n.up(pod)
			wantReplies(t, peer, pod, 5)
			if c := d.Counters(); c.Packets != 10 || c.Accepted != 10 || c.Bytes == 0 {
				t.Errorf("counters %+v after 5 pings", c)
			}
			states, err := d.QueueStates()
			nstest.Must(t, err)
			for i, s := range states {
				want := QueueState{
					Number: nfqueue.DefaultNumber + uint16(i), Length: nfqueue.DefaultLength, Bound: true,
				}
				if s != want {
					t.Errorf("queue %+v, want %+v", s, want)
				}
			}
			hooked, err := d.HookCounters()
			if err != nil || len(states) != 2 || hooked.Queued < 10 {
				t.Errorf("%d queues; hook %+v, %v", len(states), hooked, err)
			}
			if d.Hook() != hook.NFTables || d.Bypass() || d.Warning() != nil {
				t.Errorf("hook %s, bypass %t, warning %v", d.Hook(), d.Bypass(), d.Warning())
			}
			nstest.Must(t, d.Down(deserted))
			n.wantNothing(pod, peer)
			if c := d.Counters(); c.Packets != 10 {
				t.Errorf("%d packets counted at the end, want 10", c.Packets)
			}
		})
	}
}

func TestInterfaces(t *testing.T) {
	n := start(t, inspect.AcceptAll{}, nil)
	pod, _ := nstest.Pair(t)
	d := n.up(pod)
	index, err := d.InterfaceIndex("eth0")
	nstest.Must(t, err)
	nstest.Must(t, d.HasInterface(index))
	if err := d.HasInterface(index + 1000); !errors.Is(err, unix.ENODEV) {
		t.Errorf("an interface that is not there: %v", err)
	}
	nstest.Must(t, d.Down(false))
}

// brokenHook fails where it is told to.
type brokenHook struct {
	hook.Hook
	open, arm error
}

type brokenHandle struct {
	hook.Handle
	hook *brokenHook
}

func (b *brokenHook) Open(ns *netns.NetNS, inherited *os.File) (hook.Handle, error) {
	if b.open != nil {
		return nil, b.open
	}
	h, err := b.Hook.Open(ns, inherited)
	return &brokenHandle{Handle: h, hook: b}, err
}

func (h *brokenHandle) Arm(s hook.Selector) (warning, err error) {
	if h.hook.arm != nil {
		return nil, h.hook.arm
	}
	return h.Handle.Arm(s)
}

func TestFailedUpLeavesNothing(t *testing.T) {
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		hook    brokenHook
		foreign bool
		want    error
	}{
		"the hook does not open":        {hook: brokenHook{open: broken}, want: broken},
		"the hook is not armed":         {hook: brokenHook{arm: broken}, want: broken},
		"another program has the queue": {foreign: true, want: nfqueue.ErrInUse},
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t, inspect.AcceptAll{}, nil)
			pod, peer := nstest.Pair(t)
			if test.foreign {
				defer n.foreignQueue(pod, nfqueue.DefaultNumber).Close()
			}
			test.hook.Hook = n.hook
			d, err := n.New(n.open(pod), n.selector)
			nstest.Must(t, err)
			if err := d.Up(&test.hook, n.selector, &inspect.Attachment{}); !errors.Is(err, test.want) {
				t.Errorf("up: %v, want %v", err, test.want)
			}
			nstest.Must(t, d.Remove())
			if !test.foreign {
				n.wantNothing(pod, peer)
			}
		})
	}
}

// A stricter policy is in force at once, and a laxer one, too.
func TestSetPolicy(t *testing.T) {
	s := fdstoretest.New(t)
	n := start(t, inspect.AcceptAll{}, func(n *node) { n.selector.Bypass = true })
	n.restart(s)
	pod, peer := nstest.Pair(t)
	d := n.up(pod)
	for _, bypass := range []bool{false, true} {
		nstest.Must(t, d.SetPolicy(bypass))
		nstest.Must(t, d.FindFault())
		nstest.Eventually(t, patience, "descriptors are stored by the policy's names", func() bool {
			names := s.Names()
			return len(names) == 2 && names[d.stored.name(slot{kind: fdstore.Queue}).String()] == 1
		})
		if d.Bypass() != bypass || d.stored.strict == bypass {
			t.Errorf("bypass %t, stored as strict %t; want bypass %t",
				d.Bypass(), d.stored.strict, bypass)
		}
		wantReplies(t, peer, pod, 1)
	}
	nstest.Must(t, d.Down(false))
	s.Await(0)
}

// What waits when a pod is taken down gets the policy's verdict after a while, and
// what a reader has is waited for.
func TestDownAnswersWhatWaits(t *testing.T) {
	for name, bypass := range map[string]bool{"bypass": true, "strict": false} {
		t.Run(name, func(t *testing.T) {
			held, release := make(chan struct{}), make(chan struct{})
			var once sync.Once
			n := start(t, inspect.Func(func(*inspect.Packet) inspect.Verdict {
				once.Do(func() { close(held) })
				<-release
				return inspect.Verdict{Action: inspect.Accept}
			}), func(n *node) { n.selector.Bypass = bypass })
			pod, peer := nstest.Pair(t)
			d := n.up(pod)
			to := peer.ListenUDP(t, netip.AddrPortFrom(peer.IPv4(), 0).String())
			from := pod.DialUDP(t, to.LocalAddr().String())
			_, err := from.Write([]byte("held"))
			nstest.Must(t, err)
			<-held
			done := make(chan error, 1)
			go func() { done <- d.Down(false) }()
			wait := silence
			if bypass {
				wait = patience
			}
			nstest.Must(t, to.SetReadDeadline(time.Now().Add(wait)))
			_, err = to.Read(make([]byte, 16))
			if arrived := err == nil; arrived != bypass {
				t.Errorf("arrived %t before the reader answered, want %t", arrived, bypass)
			}
			close(release)
			nstest.Must(t, <-done)
			n.wantNothing(pod, peer)
		})
	}
}

// Without a store, a strict netns stays armed where the hook can, and the others
// are taken down.
func TestSuspend(t *testing.T) {
	for name, bypass := range map[string]bool{"bypass": true, "strict": false} {
		t.Run(name, func(t *testing.T) {
			n := start(t, inspect.AcceptAll{}, func(n *node) { n.selector.Bypass = bypass })
			pod, peer := nstest.Pair(t)
			d := n.up(pod)
			armed, err := d.Suspend()
			nstest.Must(t, err)
			if want := !bypass && n.hook.Persistent(); armed != want {
				t.Errorf("armed %t, want %t", armed, want)
			}
			if !armed {
				n.wantNothing(pod, peer)
				return
			}
			if got := peer.Ping(t, pod.IPv4(), 1, silence); got != 0 {
				t.Error("a strict netns passes packets uninspected")
			}
			nstest.Must(t, n.up(pod).Down(false))
			n.wantNothing(pod, peer)
		})
	}
}

// With settled flows, a new generation has each flow inspected again, and another
// reader in the netns ends settling.
func TestSettling(t *testing.T) {
	settling := hook.Settle{Generation: 1, Timeout: time.Minute, Size: 1024}
	n := start(t, inspect.Func(func(*inspect.Packet) inspect.Verdict {
		return inspect.Verdict{Action: inspect.Accept, Settle: true}
	}), func(n *node) { n.selector.Settle = settling })
	pod, peer := nstest.Pair(t)
	d := n.up(pod)
	to := peer.ListenUDP(t, netip.AddrPortFrom(peer.IPv4(), 0).String())
	from := pod.DialUDP(t, to.LocalAddr().String())
	talk := func() (inspected uint64) {
		t.Helper()
		before := d.Counters().Packets
		for range 4 {
			_, err := from.Write([]byte("settled?"))
			nstest.Must(t, err)
			nstest.Must(t, to.SetReadDeadline(time.Now().Add(patience)))
			_, err = to.Read(make([]byte, 16))
			nstest.Must(t, err)
		}
		return d.Counters().Packets - before
	}
	talk()
	if got := talk(); got != 0 {
		t.Fatalf("%d packets of a settled flow were inspected", got)
	}
	settling.Generation++
	nstest.Must(t, d.Rearm(settling))
	if got := talk(); got == 0 || got == 4 {
		t.Errorf("%d of 4 packets were inspected in a new generation, want the first", got)
	}
	defer n.foreignQueue(pod, 5).Close()
	if found := d.Verify(d.Netns()); found.Fault != nil || !found.ForeignReader {
		t.Errorf("beside a foreign reader: %+v", found)
	}
	nstest.Must(t, d.Rearm(settling)) // settles nothing any more
	if got := talk(); got != 4 {
		t.Errorf("%d of 4 packets were inspected beside a foreign reader", got)
	}
	nstest.Must(t, d.Down(false))
}

func TestPanic(t *testing.T) {
	n := start(t, inspect.Func(func(*inspect.Packet) inspect.Verdict { panic("on purpose") }), nil)
	pod, peer := nstest.Pair(t)
	d := n.up(pod)
	if d.TakePanic() != "" {
		t.Error("a panic before the first packet")
	}
	to := peer.ListenUDP(t, netip.AddrPortFrom(peer.IPv4(), 0).String())
	_, err := pod.DialUDP(t, to.LocalAddr().String()).Write([]byte("payload"))
	nstest.Must(t, err)
	nstest.Eventually(t, patience, "the inspector panics", func() bool {
		return d.Counters().Panics > 0
	})
	if got := d.TakePanic(); !strings.Contains(got, "on purpose") {
		t.Errorf("it said %q", got)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.panics) == 0 || !strings.Contains(n.panics[0], "on purpose") {
		t.Errorf("told of %q", n.panics)
	}
	nstest.Must(t, d.Down(false))
}
