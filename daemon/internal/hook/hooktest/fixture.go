// SPDX-License-Identifier: Apache-2.0

package hooktest

import (
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// fixture is a pod with a hook, and a peer.
type fixture struct {
	*testing.T
	pod, peer *nstest.NetNS
	ns        *netns.NetNS // the pod's
	handle    hook.Handle
}

func newFixture(t *testing.T, h hook.Hook) *fixture {
	t.Helper()
	pod, peer := nstest.Pair(t)
	return &fixture{T: t, pod: pod, peer: peer, ns: open(t, pod), handle: openHook(t, h, pod)}
}

func open(t *testing.T, n *nstest.NetNS) *netns.NetNS {
	t.Helper()
	ns, err := netns.Open(n.Path())
	nstest.Must(t, err)
	t.Cleanup(func() { nstest.Must(t, ns.Close()) })
	return ns
}

func openHook(t *testing.T, h hook.Hook, n *nstest.NetNS) hook.Handle {
	t.Helper()
	handle, err := h.Open(open(t, n), nil)
	nstest.Must(t, err)
	t.Cleanup(func() {
		awaitDropped(t, handle)
		closeHook(t, handle)
	})
	return handle
}

func closeHook(t *testing.T, handle hook.Handle) {
	t.Helper()
	nstest.Must(t, handle.Remove())
	nstest.Must(t, handle.Close())
}

// awaitDropped waits until the kernel has dropped what was in queues that the test has
// closed: it does so in the background, and Linux 6.1 warns where the hook goes
// first. Each disarming lasts for a grace period.
func awaitDropped(t *testing.T, handle hook.Handle) {
	t.Helper()
	for range 2 {
		nstest.Must(t, handle.Disarm())
	}
}

// arm is Arm without its warning: no other program is in the netns of a test.
func arm(handle hook.Handle, s hook.Selector) error {
	_, err := handle.Arm(s)
	return err
}

func mustArm(t *testing.T, handle hook.Handle, s hook.Selector) {
	t.Helper()
	nstest.Must(t, arm(handle, s))
}

func (f *fixture) arm(s hook.Selector) {
	f.Helper()
	mustArm(f.T, f.handle, s)
}

// pings sends three echo requests from the peer and returns the replies.
func (f *fixture) pings(timeout time.Duration) int {
	f.Helper()
	return f.peer.Ping(f.T, f.pod.IPv4(), 3, timeout)
}

func addAddress(link string, addr netip.Prefix) error {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return err
	}
	parsed, err := netlink.ParseAddr(addr.String())
	if err != nil {
		return err
	}
	return netlink.AddrAdd(l, parsed)
}

// bind opens and binds a queue; the caller reads and closes it.
func bind(t *testing.T, ns *netns.NetNS, number uint16) *nfqueue.Queue {
	t.Helper()
	q, err := nfqueue.Open(ns, nfqueue.Config{
		Number: number, Length: nfqueue.DefaultLength,
		CopyRange: nfqueue.MaxCopyRange, ReceiveBuffer: nfqueue.DefaultReceiveBuffer,
	})
	nstest.Must(t, err)
	nstest.Must(t, q.Bind())
	return q
}

// record is what a test keeps of a packet.
type record struct {
	direction inspect.Direction
	mark      uint32
	length    int
	flow      inspect.Flow
}

// recorder accepts and remembers packets.
type recorder struct {
	mu      sync.Mutex
	records []record
}

// read accepts and records the packets of the netns until the test ends.
func read(t *testing.T, ns *netns.NetNS) *recorder {
	t.Helper()
	return readQueue(t, ns, queueNumber)
}

func readQueue(t *testing.T, ns *netns.NetNS, number uint16) *recorder {
	t.Helper()
	rec := &recorder{}
	readWith(t, ns, number, rec, nil)
	return rec
}

// readWith has the packets of a queue inspected until the test ends.
func readWith(
	t *testing.T, ns *netns.NetNS, number uint16, i inspect.Inspector, rejecter nfqueue.Rejecter,
) *nfqueue.Reader {
	t.Helper()
	q := bind(t, ns, number)
	r, err := nfqueue.NewReader(q, false, nfqueue.ReaderOptions{
		Inspector: i, Attachment: &inspect.Attachment{}, Rejecter: rejecter,
		Observer: func() nfqueue.Observer { return nil },
	})
	nstest.Must(t, err)
	p, err := nfqueue.NewPoller(nfqueue.PollerOptions{CopyRange: nfqueue.MaxCopyRange})
	nstest.Must(t, err)
	nstest.Must(t, p.Add(r))
	done := make(chan error, 1)
	go func() { done <- p.Run() }()
	t.Cleanup(func() {
		awaitAnswers(t, q, ns)
		nstest.Must(t, q.Close())
		nstest.Must(t, p.Stop())
		nstest.Must(t, <-done)
		nstest.Must(t, p.Close())
	})
	return r
}

// awaitAnswers waits until no packet waits in the queue. Linux 6.1 warns where
// the hook goes while packets wait behind it, in a closed queue for a moment too.
func awaitAnswers(t *testing.T, q *nfqueue.Queue, ns *netns.NetNS) {
	t.Helper()
	nstest.Eventually(t, reply, "every packet is answered", func() bool {
		s, bound, err := q.Stat(ns)
		nstest.Must(t, err)
		return !bound || s.Waiting == 0
	})
}

// Inspect records and accepts.
func (r *recorder) Inspect(p *inspect.Packet) inspect.Verdict {
	flow, _ := p.Flow()
	flow.Transport = slices.Clone(flow.Transport[:min(len(flow.Transport), 8)])
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, record{p.Direction, p.Mark, p.Length, flow})
	return inspect.Verdict{Action: inspect.Accept}
}

func (r *recorder) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = nil
}

func (r *recorder) count(match func(*record) bool) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for i := range r.records {
		if match(&r.records[i]) {
			n++
		}
	}
	return n
}

func (r *recorder) direction(d inspect.Direction) int {
	return r.count(func(p *record) bool { return p.direction == d })
}

// receive returns how many of n datagrams arrive before one is overdue.
func receive(t *testing.T, c interface {
	Read([]byte) (int, error)
	SetReadDeadline(time.Time) error
}, n int,
) int {
	t.Helper()
	buf := make([]byte, 1<<16)
	for i := range n {
		nstest.Must(t, c.SetReadDeadline(time.Now().Add(nstest.Patient(reply))))
		if _, err := c.Read(buf); err != nil {
			return i
		}
	}
	return n
}
