// SPDX-License-Identifier: Apache-2.0

package hooktest

import (
	"encoding/binary"
	"net"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/test/nstest"
)

const queues = 4

func several() hook.Selector {
	s := all()
	s.Queues = queues
	return s
}

func (f *fixture) readAll() []*recorder {
	f.Helper()
	var recorders []*recorder
	for i := range uint16(queues) {
		recorders = append(recorders, readQueue(f.T, f.ns, queueNumber+i))
	}
	return recorders
}

// Flows that differ in a port only are spread, and both directions of each are
// in the same queue.
func testBalance(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	f.arm(several())
	nstest.Must(t, f.handle.Verify(f.ns, several()))
	recorders := f.readAll()
	const flows = 32
	for _, peer := range f.addresses() {
		used := make(map[int]int)
		for range flows {
			k := f.talk(peer)
			if out, in := k.out(2), k.in(2); out != 2 || in != 2 {
				t.Fatalf("%s: %d datagrams out and %d in of 2 arrived", peer, out, in)
			}
			pod, port := portOf(k.pod), portOf(k.peer)
			for i, r := range recorders {
				switch n := r.count(ofPorts(pod, port)); n {
				case 0:
				case 4:
					used[i]++
				default:
					t.Errorf("%s ports %d, %d: queue %d has %d packets of 4", peer, pod, port, i, n)
				}
			}
		}
		// That one of four stays empty by chance is 1 in 2,500, which happens;
		// two: 1 in 10^9.
		if len(used) < queues-1 {
			t.Errorf("%s: %d flows by queue: %v", peer, flows, used)
		}
	}
}

func portOf(c *net.UDPConn) uint16 { return uint16(c.LocalAddr().(*net.UDPAddr).Port) }

// ofPorts matches a flow, in both directions. One port would not do: the kernel
// may give the same number to an end of another flow.
func ofPorts(a, b uint16) func(*record) bool {
	return func(p *record) bool {
		x, y := p.flow.SourcePort, p.flow.DestinationPort
		return p.flow.Protocol == inspect.ProtoUDP && (x == a && y == b || x == b && y == a)
	}
}

func testBalanceOrder(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	// While the link address is being looked up, a later packet may overtake
	// those that wait for it.
	if got := f.pings(reply); got != 3 {
		t.Fatalf("%d of 3 replies before arming", got)
	}
	f.arm(several())
	f.readAll()
	const flows, each = 8, 100
	talks := make([]*talk, flows)
	for i := range talks {
		talks[i] = f.talk(f.peer.IPv4())
	}
	for n := range uint32(each) {
		for _, k := range talks {
			_, err := k.pod.Write(binary.BigEndian.AppendUint32(nil, n))
			nstest.Must(t, err)
		}
	}
	buf := make([]byte, 4)
	for _, k := range talks {
		for n := range uint32(each) {
			nstest.Must(t, k.peer.SetReadDeadline(time.Now().Add(nstest.Patient(reply))))
			_, err := k.peer.Read(buf)
			nstest.Must(t, err)
			if got := binary.BigEndian.Uint32(buf); got != n {
				t.Fatalf("datagram %d came as number %d", got, n)
			}
		}
	}
}

// Datagrams that do not fit the link are one packet to the hook, coming and
// going: without its ports, a fragment would be in any queue.
func testBalanceFragments(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	f.arm(several())
	recorders := f.readAll()
	const size, flows = 4000, 8
	for _, peer := range f.addresses() {
		for range flows {
			k := f.talk(peer)
			_, err := k.pod.Write(make([]byte, size))
			nstest.Must(t, err)
			_, err = k.peer.WriteTo(make([]byte, size), k.pod.LocalAddr())
			nstest.Must(t, err)
			if receive(t, k.peer, 1) != 1 || receive(t, k.pod, 1) != 1 {
				t.Fatalf("%s: a datagram of %d bytes did not arrive", peer, size)
			}
			used := 0
			flow := ofPorts(portOf(k.pod), portOf(k.peer))
			for _, r := range recorders {
				n := r.count(func(p *record) bool { return flow(p) && p.length > size })
				if n != 0 && n != 2 {
					t.Errorf("%s: %d of a flow's two datagrams in a queue", peer, n)
				}
				used += n
			}
			if used != 2 {
				t.Errorf("%s: %d whole datagrams were queued, want 2", peer, used)
			}
		}
	}
	fragment := func(p *record) bool { return p.flow.Fragment }
	for _, r := range recorders {
		if n := r.count(fragment); n != 0 {
			t.Errorf("%d fragments were queued", n)
		}
	}
}

func testBalanceKeepsWaiting(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	fewer := all()
	for _, change := range []struct{ from, to hook.Selector }{
		{fewer, several()}, {several(), fewer},
	} {
		f.arm(change.from)
		var bound []*nfqueue.Queue
		for i := range uint16(queues) {
			bound = append(bound, bind(t, f.ns, queueNumber+i))
		}
		const flows = 16
		talks := make([]*talk, flows)
		for i := range talks {
			talks[i] = f.talk(f.peer.IPv4())
			_, err := talks[i].pod.Write([]byte("out"))
			nstest.Must(t, err)
		}
		mustArm(t, f.handle, change.to)
		nstest.Must(t, f.handle.Verify(f.ns, change.to))
		for _, q := range bound {
			stat, _, err := q.Stat(f.ns)
			nstest.Must(t, err)
			if stat.Waiting > 0 {
				nstest.Must(t, q.AnswerAll(stat.Sequence, true))
			}
		}
		for _, k := range talks {
			if got := receive(t, k.peer, 1); got != 1 {
				t.Errorf("from %d to %d queues: a waiting packet did not arrive",
					change.from.Count(), change.to.Count())
			}
		}
		for _, q := range bound {
			nstest.Must(t, q.Close())
		}
	}
}

func testBalanceLimit(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	last := all()
	last.Queue, last.Queues = 65535-3, queues
	f.arm(last)
	for _, bad := range []hook.Selector{
		{Queue: 65533, Queues: queues, Directions: hook.In},
		{Queues: hook.MaxQueues + 1, Directions: hook.In},
	} {
		if _, err := f.handle.Arm(bad); err == nil {
			t.Errorf("%d queues from %d on were armed", bad.Queues, bad.Queue)
		}
	}
	nstest.Must(t, f.handle.Verify(f.ns, last))
}
