// SPDX-License-Identifier: Apache-2.0

//go:build vmguest

package kmod

import (
	"encoding/binary"
	"fmt"
	"testing"
)

func TestQueueCount(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("v6=%t", v6), func(t *testing.T) { testQueueCount(t, v6) })
	}
}

func testQueueCount(t *testing.T, v6 bool) {
	const queues, flows = 4, 32
	load(t, "")
	n := newNode(t)
	p := n.newPod(t)
	to := p.v4
	if v6 {
		to = p.v6
	}
	// Packets may be lost until both links are up and their addresses known.
	if n.Ping(t, to, 1, delivery) != 1 {
		t.Fatal("the pod does not answer before it is armed")
	}
	p.set(t, "protocols", "udp")
	p.set(t, "queue_count", "4")
	seen := make([]map[uint16]int, queues) // the pod's port → packets
	whole := make([]int, queues)           // that would be fragments elsewhere
	var stops []func() int
	for i := range seen {
		seen[i] = map[uint16]int{}
		r := p.newReader(t, uint16(80+i))
		stops = append(stops, r.serve(func(packet *packet) {
			seen[i][podPort(packet)]++
			if len(packet.payload) > largeDatagram {
				whole[i]++
			}
		}))
	}
	p.set(t, "enabled", "1")
	for range flows {
		newFlow(t, n, p, v6).exchange(t)
	}
	used, ports, large := 0, 0, 0
	for i, stop := range stops {
		stop()
		ports, large = ports+len(seen[i]), large+whole[i]
		if len(seen[i]) > 0 {
			used++
		}
		for port, packets := range seen[i] {
			if packets != 4 {
				t.Errorf("queue %d has %d of the 4 packets of port %d", 80+i, packets, port)
			}
		}
	}
	// 32 flows on two of four queues or fewer: one in 10^9.
	if used < 3 || ports != flows {
		t.Errorf("%d flows on %d queues", ports, used)
	}
	if large != 2*flows {
		t.Errorf("%d of %d large datagrams were queued whole", large, 2*flows)
	}
}

// largeDatagram is more than fits into one packet of the link.
const largeDatagram = 4000

// exchange sends a small and a large datagram each way.
func (f *flow) exchange(t *testing.T) {
	t.Helper()
	for _, size := range []int{1, largeDatagram} {
		f.in(t, make([]byte, size))
		f.out(t, make([]byte, size))
	}
	if in, out := received(t, f.pod, 2), received(t, f.node, 2); in != 2 || out != 2 {
		t.Fatalf("%d of 2 datagrams were delivered in, %d of 2 out", in, out)
	}
}

// podPort is the pod's port, whichever way the packet goes.
func podPort(p *packet) uint16 {
	ports := p.payload[20:]
	if p.payload[0]>>4 == 6 {
		ports = p.payload[40:]
	}
	if p.hook == hookOut {
		return binary.BigEndian.Uint16(ports)
	}
	return binary.BigEndian.Uint16(ports[2:])
}
