// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nfqueue_test

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/hook/nft"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/test/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

const (
	reply   = time.Minute // only for what hangs
	silence = 200 * time.Millisecond
)

// fixture is an armed pod without a reader, and a peer that it sends to.
type fixture struct {
	testing.TB
	pod, peer *nstest.NetNS
	ns        *netns.NetNS
	to, from  *net.UDPConn
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	return newFixtureOf(t, hook.Out)
}

func newFixtureOf(t testing.TB, directions hook.Directions) *fixture {
	t.Helper()
	f := &fixture{TB: t}
	f.pod, f.peer = nstest.Pair(t)
	ns, err := netns.Open(f.pod.Path())
	f.must(err)
	t.Cleanup(func() { f.must(ns.Close()) })
	f.ns = ns
	h, err := nft.New()
	f.must(err)
	handle, err := h.Open(ns, nil)
	f.must(err)
	t.Cleanup(func() { f.must(errors.Join(handle.Remove(), handle.Close())) })
	_, err = handle.Arm(hook.Selector{Queue: 80, Directions: directions})
	f.must(err)
	f.to = f.peer.ListenUDP(t, netip.AddrPortFrom(f.peer.IPv4(), 0).String())
	f.from = f.pod.DialUDP(t, f.to.LocalAddr().String())
	return f
}

func config(number uint16) nfqueue.Config {
	return nfqueue.Config{
		Number: number, Length: nfqueue.DefaultLength,
		CopyRange: nfqueue.MaxCopyRange, ReceiveBuffer: nfqueue.DefaultReceiveBuffer,
	}
}

func (f *fixture) bind(number uint16) *nfqueue.Queue {
	f.Helper()
	q, err := nfqueue.Open(f.ns, config(number))
	f.must(err)
	f.must(q.Bind())
	return q
}

// read answers the packets of a queue until the test ends.
func (f *fixture) read(number uint16, failOpen bool, i inspect.Func) *nfqueue.Reader {
	f.Helper()
	return f.run(f.bind(number), failOpen, i)
}

// readWith is read on queue 80 for an inspector that declares its needs.
func (f *fixture) readWith(modifies, failOpen bool, i inspect.Func) *nfqueue.Reader {
	f.Helper()
	c := config(80)
	c.Modifies = modifies
	q, err := nfqueue.Open(f.ns, c)
	f.must(err)
	f.must(q.Bind())
	return f.run(q, failOpen, i)
}

func options(i inspect.Func) nfqueue.ReaderOptions {
	return nfqueue.ReaderOptions{
		Inspector: i, Attachment: &inspect.Attachment{}, MarkMask: 0xff000000,
		Observer: func() nfqueue.Observer { return nil },
	}
}

func (f *fixture) run(q *nfqueue.Queue, failOpen bool, i inspect.Func) *nfqueue.Reader {
	f.Helper()
	return f.runWith(q, failOpen, options(i))
}

func (f *fixture) runWith(
	q *nfqueue.Queue, failOpen bool, o nfqueue.ReaderOptions,
) *nfqueue.Reader {
	f.Helper()
	r, err := nfqueue.NewReader(q, failOpen, o)
	f.must(err)
	f.serve(q, r, nfqueue.PollerOptions{CopyRange: nfqueue.MaxCopyRange})
	return r
}

// serve has a poller serve the reader until the test ends.
func (f *fixture) serve(
	q *nfqueue.Queue, r *nfqueue.Reader, o nfqueue.PollerOptions,
) *nfqueue.Poller {
	f.Helper()
	p, err := nfqueue.NewPoller(o)
	f.must(err)
	f.must(p.Add(r))
	done := make(chan error, 1)
	go func() { done <- p.Run() }()
	f.Cleanup(func() {
		if err := q.Close(); !errors.Is(err, os.ErrClosed) {
			f.must(err)
		}
		f.must(p.Stop())
		f.must(<-done)
		f.must(p.Close())
	})
	return p
}

// A poller that may wait without the scheduler's knowledge does so while packets
// keep coming one by one, is idle when they have stopped, and reads on, again and
// again.
func TestPacketsOneByOne(t *testing.T) {
	f := newFixture(t)
	q := f.bind(80)
	r, err := nfqueue.NewReader(q, false, options(verdict(inspect.Verdict{Action: inspect.Accept})))
	f.must(err)
	p := f.serve(q, r, nfqueue.PollerOptions{
		CopyRange: nfqueue.MaxCopyRange, HotWaits: nfqueue.NewHotWaits(1),
	})
	for range 3 {
		for range 100 {
			f.send(1)
			if f.arrive(1, reply) != 1 {
				t.Fatal("a datagram did not arrive")
			}
		}
		nstest.Eventually(t, reply, "the poller is idle", p.Idle)
	}
	if c := &r.Counters; c.Packets.Load() != 300 || c.Accepted.Load() != 300 || c.Errors.Load() != 0 {
		t.Errorf("%d packets, %d accepted, %d errors", c.Packets.Load(), c.Accepted.Load(),
			c.Errors.Load())
	}
	if err := r.Err(); err != nil {
		t.Error(err)
	}
}

func (f *fixture) send(n int) {
	f.Helper()
	for range n {
		_, err := f.from.Write([]byte("payload"))
		f.must(err)
	}
}

// arrive returns how many of n datagrams arrive before one is overdue.
func (f *fixture) arrive(n int, patience time.Duration) int {
	f.Helper()
	buf := make([]byte, 64)
	for i := range n {
		f.must(f.to.SetReadDeadline(time.Now().Add(patience)))
		if _, err := f.to.Read(buf); err != nil {
			return i
		}
	}
	return n
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func TestVerdictsOfReader(t *testing.T) {
	for _, tt := range []struct {
		name     string
		failOpen bool
		inspect  inspect.Func
		arrive   int
		panics   uint64
	}{
		{"accept", false, verdict(inspect.Verdict{Action: inspect.Accept}), 3, 0},
		{"drop", true, verdict(inspect.Verdict{Action: inspect.Drop}), 0, 0},
		{"none, fail open", true, verdict(inspect.Verdict{}), 3, 0},
		{"none, fail closed", false, verdict(inspect.Verdict{}), 0, 0},
		{"panic, fail open", true, func(*inspect.Packet) inspect.Verdict { panic("inspector") }, 3, 3},
		{"panic, fail closed", false, func(*inspect.Packet) inspect.Verdict { panic("inspector") }, 0, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			r := f.read(80, tt.failOpen, tt.inspect)
			f.send(3)
			patience := reply
			if tt.arrive == 0 {
				patience = silence
			}
			if got := f.arrive(3, patience); got != tt.arrive {
				t.Errorf("%d datagrams arrived, want %d", got, tt.arrive)
			}
			c := &r.Counters
			if c.Packets.Load() != 3 || c.Accepted.Load() != uint64(tt.arrive) ||
				c.Dropped.Load() != uint64(3-tt.arrive) || c.Panics.Load() != tt.panics {
				t.Errorf("packets %d, accepted %d, dropped %d, panics %d", c.Packets.Load(),
					c.Accepted.Load(), c.Dropped.Load(), c.Panics.Load())
			}
		})
	}
}

func verdict(v inspect.Verdict) inspect.Func {
	return func(*inspect.Packet) inspect.Verdict { return v }
}

// The inspector's mark reaches the hooks behind ours, within the mask.
func TestMarkOfVerdict(t *testing.T) {
	f := newFixture(t)
	f.pod.Run(t, "nft", `add table ip marks;
		add chain ip marks after { type filter hook output priority 0; };
		add rule ip marks after meta mark != 0xab000000 drop`)
	f.read(80, false, verdict(inspect.Verdict{
		Action: inspect.Accept, Mark: 0xabcdef01, MarkMask: 0xffffffff,
	}))
	f.send(2)
	if got := f.arrive(2, reply); got != 2 {
		t.Errorf("%d of 2 datagrams carried the mark", got)
	}
}

// A pod's rules can send packets into our queues with what only a verdict may
// ask for. The verdict that asks for nothing takes it out.
func TestVerdictCarriesNoForgedRequest(t *testing.T) {
	f := newFixture(t)
	f.pod.Run(t, "nft", `add table ip forge;
		add chain ip forge before { type filter hook output priority -10; };
		add rule ip forge before meta priority set 0x41000005;
		add chain ip forge after { type filter hook output priority 10; };
		add rule ip forge after meta priority & 0xff000000 != 0 drop`)
	f.pod.Run(t, "iptables", "-A", "OUTPUT", "-j", "NFQUEUE", "--queue-num", "82")
	f.read(80, false, verdict(inspect.Verdict{Action: inspect.Accept}))
	q := f.bind(82)
	f.send(2)
	nstest.Eventually(t, reply, "both wait", func() bool {
		stat, _, err := q.Stat(f.ns)
		f.must(err)
		return stat.Waiting == 2
	})
	f.must(q.AnswerAll(2, true))
	if got := f.arrive(2, reply); got != 2 {
		t.Errorf("%d of 2 datagrams arrived that were accepted together", got)
	}
	f.pod.Run(t, "nft", "add rule ip forge after meta priority != 0:5 drop")
	f.run(q, false, verdict(inspect.Verdict{Action: inspect.Accept}))
	f.send(2)
	if got := f.arrive(2, reply); got != 2 {
		t.Errorf("%d of 2 datagrams arrived with their own priority", got)
	}
}

func TestRequeue(t *testing.T) {
	f := newFixture(t)
	first := f.read(80, false, verdict(inspect.Verdict{Action: inspect.Queue, Queue: 81}))
	second := f.read(81, false, verdict(inspect.Verdict{Action: inspect.Accept}))
	f.send(2)
	if got := f.arrive(2, reply); got != 2 {
		t.Errorf("%d of 2 datagrams arrived through both queues", got)
	}
	if q, a := first.Counters.Queued.Load(), second.Counters.Accepted.Load(); q != 2 || a != 2 {
		t.Errorf("first queue passed on %d, second accepted %d", q, a)
	}
}

func TestBindTwice(t *testing.T) {
	f := newFixture(t)
	defer f.bind(80).Close()
	q, err := nfqueue.Open(f.ns, config(80))
	f.must(err)
	defer q.Close()
	if err := q.Bind(); !errors.Is(err, nfqueue.ErrInUse) {
		t.Errorf("second bind: %v, want %v", err, nfqueue.ErrInUse)
	}
}

// While a queue is full, fail-open decides; the switch works on a live queue.
func TestFailOpenWhenFull(t *testing.T) {
	f := newFixture(t)
	c := config(80)
	c.Length = 1
	q, err := nfqueue.Open(f.ns, c)
	f.must(err)
	defer q.Close()
	f.must(q.Bind())
	f.send(3)
	if got := f.arrive(1, silence); got != 0 {
		t.Error("a datagram passed a full queue that fails closed")
	}
	f.must(q.SetFailOpen(true))
	f.send(3)
	if got := f.arrive(3, reply); got != 3 {
		t.Errorf("%d of 3 datagrams passed a full queue that fails open", got)
	}
	stat, bound, err := q.Stat(f.ns)
	f.must(err)
	if !bound || stat.Waiting != 1 || stat.QueueDropped != 2 {
		t.Errorf("bound %t, %+v, want one waiting and two dropped", bound, stat)
	}
}

// A process with NET_ADMIN in the pod's netns could write to a netlink socket
// that is not connected, and make us see packets that are none.
func TestForgedPackets(t *testing.T) {
	f := newFixture(t)
	r := f.read(80, false, verdict(inspect.Verdict{Action: inspect.Accept}))
	stats, err := nfqueue.Stats(f.ns)
	f.must(err)
	forged := make([]byte, 64)
	forged[0], forged[4], forged[5] = 64, 0, 3 // length, NFQNL_MSG_PACKET
	f.must(f.pod.Try(func() error {
		s, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
		if err != nil {
			return err
		}
		defer unix.Close(s)
		to := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: stats[0].PortID}
		if err := unix.Sendto(s, forged, 0, to); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("the forged message: %v, want it to be refused", err)
		}
		return nil
	}))
	f.send(1)
	if got := f.arrive(1, reply); got != 1 || r.Counters.Packets.Load() != 1 {
		t.Errorf("%d arrived, %d packets seen, want 1 and 1", got, r.Counters.Packets.Load())
	}
}

// An inspector that replaces packets: the receiver's kernel takes them only if
// their checksums are right.
func TestReplacement(t *testing.T) {
	for _, tt := range []struct {
		name     string
		modifies bool
		failOpen bool
		tooLong  uint16
		want     string
	}{
		{"declared", true, false, 0, "replaced!"},
		{"not declared, fail open", false, true, 0, "payload"},
		{"not declared, fail closed", false, false, 0, ""},
		{"wrong length, fail open", true, true, 1, "payload"},
		{"wrong length, fail closed", true, false, 1, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			r := f.readWith(tt.modifies, tt.failOpen, func(p *inspect.Packet) inspect.Verdict {
				const headers = 28 // IPv4 and UDP
				b := append(append([]byte(nil), p.Payload[:headers]...), "replaced!"...)
				binary.BigEndian.PutUint16(b[2:], uint16(len(b))+tt.tooLong)
				binary.BigEndian.PutUint16(b[24:], uint16(len(b)-20))
				return inspect.Verdict{Action: inspect.Accept, Payload: b}
			})
			f.send(1)
			if tt.want != "" {
				buf := make([]byte, 64)
				f.must(f.to.SetReadDeadline(time.Now().Add(reply)))
				n, err := f.to.Read(buf)
				if err != nil || string(buf[:n]) != tt.want {
					t.Errorf("received %q, %v, want %q", buf[:n], err, tt.want)
				}
			}
			nstest.Eventually(t, reply, "the packet is counted", func() bool {
				return r.Counters.Packets.Load() == 1
			})
			c := &r.Counters
			if refused := c.Malformed.Load() == 1; refused != (tt.want != "replaced!") {
				t.Errorf("refused %t", refused)
			}
			if dropped := c.Dropped.Load() == 1; dropped != (tt.want == "") {
				t.Errorf("dropped %t", dropped)
			}
		})
	}
}

// An inspector that hangs costs the batch that it inspects, under the
// policy, and nothing else: a successor goes on, and the late verdict of the
// superseded one does not count.
func TestSupersede(t *testing.T) {
	for _, failOpen := range []bool{true, false} {
		f := newFixture(t)
		hangs, release := make(chan struct{}), make(chan struct{})
		var once sync.Once
		q := f.bind(80)
		r, err := nfqueue.NewReader(q, failOpen, options(func(*inspect.Packet) inspect.Verdict {
			hung := false
			once.Do(func() { hung = true })
			if hung {
				close(hangs)
				<-release
			}
			return inspect.Verdict{Action: inspect.Accept}
		}))
		f.must(err)
		p, err := nfqueue.NewPoller(nfqueue.PollerOptions{CopyRange: nfqueue.MaxCopyRange})
		f.must(err)
		f.must(p.Add(r))
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { first <- p.Run() }()
		f.send(1)
		<-hangs
		if superseded, err := p.Supersede(time.Hour); superseded != nil || err != nil {
			t.Errorf("superseded within its budget: %v", err)
		}
		superseded, err := p.Supersede(time.Nanosecond)
		f.must(err)
		if superseded != r {
			t.Fatal("not superseded")
		}
		go func() { second <- p.Run() }()
		want := 0
		patience := silence
		if failOpen {
			want, patience = 1, reply
		}
		if got := f.arrive(1, patience); got != want {
			t.Errorf("fail open %t: %d of 1 held datagrams arrived", failOpen, got)
		}
		f.send(3)
		if got := f.arrive(3, reply); got != 3 {
			t.Errorf("%d of 3 datagrams passed the successor", got)
		}
		close(release)
		if err := <-first; !errors.Is(err, nfqueue.ErrSuperseded) {
			t.Errorf("the superseded run: %v", err)
		}
		if c := &r.Counters; c.Overruns.Load() != 1 || c.Accepted.Load() != 3 || c.Errors.Load() != 0 {
			t.Errorf("overruns %d, accepted %d, errors %d", c.Overruns.Load(),
				c.Accepted.Load(), c.Errors.Load())
		}
		f.must(q.Close())
		f.must(p.Stop())
		f.must(<-second)
		f.must(p.Close())
	}
}

// The budget is measured by the reader's clock, whatever the wall clock says: not
// by a moment too early, and from the budget's end on.
func TestBudgetByClock(t *testing.T) {
	const budget = time.Second
	var now atomic.Int64
	now.Store(int64(time.Hour))
	f := newFixture(t)
	hangs, release := make(chan struct{}), make(chan struct{})
	q := f.bind(80)
	r, err := nfqueue.NewReader(q, true, options(func(*inspect.Packet) inspect.Verdict {
		hangs <- struct{}{}
		<-release
		return inspect.Verdict{Action: inspect.Accept}
	}))
	f.must(err)
	r.SetClock(func() time.Duration { return time.Duration(now.Load()) })
	p, err := nfqueue.NewPoller(nfqueue.PollerOptions{CopyRange: nfqueue.MaxCopyRange})
	f.must(err)
	f.must(p.Add(r))
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- p.Run() }()
	f.send(1)
	<-hangs
	for range 2 {
		if superseded, err := p.Supersede(budget); superseded != nil || err != nil {
			t.Errorf("superseded %d ns after the batch began: %v", now.Load()-int64(time.Hour), err)
		}
		now.Store(int64(time.Hour + budget - 1))
	}
	release <- struct{}{}
	if got := f.arrive(1, reply); got != 1 {
		t.Error("the inspected datagram did not arrive")
	}
	if took := r.Counters.InspectNanoseconds.Load(); took != uint64(budget-1) {
		t.Errorf("the inspector took %d ns, want %d", took, budget-1)
	}
	f.send(1)
	<-hangs
	now.Add(int64(budget))
	if superseded, err := p.Supersede(budget); superseded != r || err != nil {
		t.Errorf("not superseded after its budget: %v", err)
	}
	go func() { second <- p.Run() }()
	close(release)
	if err := <-first; !errors.Is(err, nfqueue.ErrSuperseded) {
		t.Errorf("the superseded run: %v", err)
	}
	f.must(q.Close())
	f.must(p.Stop())
	f.must(<-second)
	f.must(p.Close())
}
