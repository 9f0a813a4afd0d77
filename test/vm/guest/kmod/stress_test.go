// SPDX-License-Identifier: Apache-2.0

//go:build vmguest

package kmod

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/test/bench/report"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// flood sends to a socket without a pause until stop is called.
func flood(from, to *net.UDPConn) (stop func()) {
	var done atomic.Bool
	var group sync.WaitGroup
	data := make([]byte, 64)
	target := addrOf(to)
	group.Go(func() {
		for !done.Load() {
			_, _ = from.WriteToUDPAddrPort(data, target) // dropped is as good as sent
		}
	})
	return func() {
		done.Store(true)
		group.Wait()
	}
}

// Unloading drops what waits, hangs on nothing and leaves the traffic free.
func TestUnloadWhileWaiting(t *testing.T) {
	load(t, "")
	n := newNode(t)
	p := n.newPod(t)
	f := newFlow(t, n, p, false)
	r := p.newReader(t, 80)
	p.set(t, "protocols", "udp")
	p.set(t, "enabled", "1")
	var sysctl, proc *os.File
	p.must(t, func() (err error) {
		if sysctl, err = os.OpenFile("/proc/sys/net/nsqueue/enabled", os.O_RDWR, 0); err != nil {
			return err
		}
		proc, err = os.Open("/proc/thread-self/net/nsqueue")
		return err
	})
	defer sysctl.Close()
	defer proc.Close()
	for range 5 {
		f.in(t, []byte("held"))
	}
	held := r.expect(t, 5)

	start := time.Now()
	if err := rmmod(); err != nil {
		t.Fatalf("unload: %v", err)
	}
	t.Logf("unloaded in %s", time.Since(start).Round(time.Millisecond))
	f.in(t, []byte("free"))
	if received(t, f.pod, 1) != 1 {
		t.Error("traffic does not pass after unloading")
	}
	nothing(t, f.pod) // the held ones are gone
	if err := r.accept(held[0]); err != nil {
		t.Errorf("verdict on a packet that is gone: %v", err)
	}
	for _, file := range []*os.File{sysctl, proc} {
		if n, err := file.Read(make([]byte, 100)); err == nil {
			t.Errorf("read %d bytes of %s after unloading", n, file.Name())
		}
	}
	if _, err := unix.Write(int(sysctl.Fd()), []byte("1")); !errors.Is(err, unix.ENOENT) {
		t.Errorf("write to an open sysctl after unloading: %v", err)
	}
}

func TestReload(t *testing.T) {
	const rounds = 50
	unloadAtEnd(t)
	n := newNode(t)
	p := n.newPod(t)
	f := newFlow(t, n, p, false)
	g := newFlow(t, n, p, true)
	defer flood(f.node, f.pod)()
	defer flood(g.pod, g.node)()
	for i := range rounds {
		if err := insmod([]string{"", "default_enabled=1", "default_enabled=2 queue_bypass=1"}[i%3]); err != nil {
			t.Fatalf("load %d: %v", i, err)
		}
		p.set(t, "enabled", "1")
		r, err := p.openQueue(80)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.next(nstest.Patient(time.Minute)); err != nil {
			t.Errorf("round %d: %v", i, err)
		}
		if err := rmmod(); err != nil {
			t.Fatalf("unload %d: %v", i, err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Pods come and go, armed and under traffic, while everything is changed.
func TestChurn(t *testing.T) {
	const total, workers = 200, 4
	load(t, "default_enabled=1")
	stopFlips := flip(t)
	defer stopFlips()
	n := newNode(t)
	n.set(t, "enabled", "0")
	before := n.links(t)
	var next atomic.Int32
	var making sync.Mutex // the node's counter
	var group sync.WaitGroup
	errs := make(chan error, total)
	for range workers {
		group.Go(func() {
			for next.Add(1) <= total {
				making.Lock()
				p, err := n.makePod()
				making.Unlock()
				if err != nil {
					errs <- err
					continue
				}
				errs <- live(n, p)
			}
		})
	}
	group.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	nstest.Eventually(t, patience, "the links of the pods are gone", func() bool {
		return n.links(t) == before
	})
}

// links returns how many links the netns has; a kernel may add some to each.
func (n *netns) links(t *testing.T) (count int) {
	t.Helper()
	n.must(t, func() error {
		links, err := net.Interfaces()
		count = len(links)
		return err
	})
	return count
}

// live is one pod's life: some packets each way, a reader that leaves packets
// behind, changes meanwhile, and an end with packets waiting.
func live(n *node, p *pod) (err error) {
	defer func() { err = errors.Join(err, p.Remove()) }()
	a, err := n.tryListenUDP(n.v4)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := p.tryListenUDP(p.v4)
	if err != nil {
		return err
	}
	defer b.Close()
	r, err := p.openQueue(80)
	if err != nil {
		return err
	}
	defer r.Close()
	r.request.Store(requestAccept)
	for i, change := range []struct{ name, value string }{
		{"generation", "1"},
		{"queue_count", "4"},
		{"directions", "in"},
		{"settle_size", "1"},
		{"bypass", "1"},
		{"protocols", "udp"},
		{"enabled", "0"},
		{"enabled", "1"},
		{"queue_count", "1"},
		{"settle_timeout", "10"},
		{"directions", "all"},
		{"bypass", "0"},
		{"generation", "1"},
	} {
		for range 5 {
			_ = send(a, b, []byte("x")) // dropped is as good as sent
			_ = send(b, a, []byte("x"))
		}
		if err := p.trySet(change.name, change.value); err != nil {
			return fmt.Errorf("set %s: %w", change.name, err)
		}
		if packet, err := r.next(time.Millisecond); err == nil && i%2 == 0 {
			if err := r.accept(packet); err != nil {
				return fmt.Errorf("accept: %w", err)
			}
		}
	}
	return nil
}

// flip changes the live parameter and reads the proc file all the time.
func flip(t *testing.T) (stop func()) {
	var done atomic.Bool
	var group sync.WaitGroup
	initial := openNetns(t, initialNetns)
	group.Go(func() {
		for i := 0; !done.Load(); i++ {
			value := []string{"0", "1"}[i%2]
			err := writeFile("/sys/module/nsqueue/parameters/queue_bypass", value)
			if _, readErr := initial.tryStatus(); err != nil || readErr != nil {
				t.Errorf("while pods churn: %v", errors.Join(err, readErr))
				return
			}
		}
	})
	return func() {
		done.Store(true)
		group.Wait()
	}
}

// The counters are whole while many CPUs and both contexts count.
func TestCountersAddUp(t *testing.T) {
	load(t, "")
	n := newNode(t)
	p := n.newPod(t)
	p.set(t, "protocols", "udp")
	p.set(t, "bypass", "1")
	f := newFlow(t, n, p, false)
	g := newFlow(t, n, p, false)
	p.set(t, "enabled", "1")
	before := p.status(t)
	const each = 5000
	var group sync.WaitGroup
	for _, pair := range [][2]*net.UDPConn{{f.node, f.pod}, {f.pod, f.node}, {g.node, g.pod}, {g.pod, g.node}} {
		group.Go(func() {
			for range each {
				if err := send(pair[0], pair[1], []byte("x")); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	expectGrown(t, p.netns, before, []int{4 * each, 4 * each}, "queued", "bypassed")
}

// A cost is one state of the module; its set comes from the state before it.
type cost struct {
	name string
	set  func()
}

func costs(t *testing.T, p *pod, f *flow) []cost {
	return []cost{
		{"no module", func() {
			if loaded() {
				if err := rmmod(); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{"loaded, never armed", func() {
			if err := insmod("queue_bypass=1"); err != nil {
				t.Fatal(err)
			}
		}},
		{"armed, other direction", func() {
			p.set(t, "directions", "forward")
			p.set(t, "enabled", "1")
		}},
		{"armed, other protocol", func() {
			p.set(t, "directions", "all")
			p.set(t, "protocols", "tcp")
		}},
		{"disarmed again", func() { p.set(t, "enabled", "0") }},
		{"queue verdict, no reader", func() {
			p.set(t, "protocols", "all")
			p.set(t, "enabled", "1")
		}},
		{"the same, four queues", func() { p.set(t, "queue_count", "4") }},
		{"no reader, flow not settled", func() {
			p.set(t, "queue_count", "1")
			p.set(t, "generation", "1")
		}},
		{"flow settled", func() { f.settle(t, p) }},
	}
}

// settle has the flow settled by a reader that then goes.
func (f *flow) settle(t *testing.T, p *pod) {
	t.Helper()
	r := p.newReader(t, 80)
	r.request.Store(requestAccept)
	f.in(t, []byte("x"))
	nstest.Must(t, r.accept(r.expect(t, 1)[0]))
	if received(t, f.pod, 1) != 1 {
		t.Fatal("the packet was not delivered")
	}
	p.awaitFlows(t, 1)
	nstest.Must(t, r.Close())
}

// TestCost prints what the hook costs: the packet rate of short rounds, as a part of that
// without the module in the same round. The processor is emulated on a machine that does
// other work too, so only the ratio says something.
func TestCost(t *testing.T) {
	const rounds = 15
	unloadAtEnd(t)
	n := newNode(t)
	p := n.newPod(t)
	f := newFlow(t, n, p, false)
	all := costs(t, p, f)
	rates := make([]report.Spread, len(all))
	for range rounds {
		for i, c := range all {
			c.set()
			f.rate(t, 100) // changed code is translated again
			rates[i] = report.SpreadOf(append(rates[i].Rounds, f.rate(t, 400)))
		}
	}
	for i, c := range all[1:] {
		t.Logf("cost: %-28s %s of no module", c.name, report.Ratio(rates[i+1], rates[0]))
	}
}

// rate is packets a second, one in and one out for each turn.
func (f *flow) rate(t *testing.T, turns int) float64 {
	t.Helper()
	data := make([]byte, 64)
	endReads(t, f.pod, 2*time.Minute)
	endReads(t, f.node, 2*time.Minute)
	start := time.Now()
	for range turns {
		turn(t, f.node, f.pod, data)
		turn(t, f.pod, f.node, data)
	}
	return 2 * float64(turns) / time.Since(start).Seconds()
}

func turn(t *testing.T, from, to *net.UDPConn, data []byte) {
	t.Helper()
	if err := send(from, to, data); err != nil {
		t.Fatal(err)
	}
	if _, _, err := to.ReadFromUDPAddrPort(data); err != nil {
		t.Fatal(err)
	}
}
