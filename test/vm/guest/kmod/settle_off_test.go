// SPDX-License-Identifier: Apache-2.0

//go:build vmguest

package kmod

import (
	"testing"

	"github.com/nsqueue/nsqueue/test/nstest"
)

// A verdict that drops its packet by a request may come when settling is off
// by then, in whichever way: the packet is dropped, and nothing is settled.
func TestSettleDropsWhileGoingOff(t *testing.T) {
	for _, c := range []struct{ name, value string }{
		{"generation", "2"},
		{"generation", "0"},
		{"enabled", "0"},
		{"directions", "out"},
		{"protocols", "tcp"},
	} {
		t.Run(c.name+"="+c.value, func(t *testing.T) {
			load(t, "")
			n := newNode(t)
			p := n.newPod(t)
			f := newFlow(t, n, p, false)
			r := p.newReader(t, 80)
			p.set(t, "directions", "in")
			p.set(t, "protocols", "udp")
			p.set(t, "generation", "1")
			p.set(t, "enabled", "1")
			f.in(t, []byte("dropped"))
			f.in(t, []byte("accepted"))
			held := r.expect(t, 2)
			p.set(t, c.name, c.value)
			r.request.Store(requestDrop)
			nstest.Must(t, r.accept(held[0]))
			r.request.Store(requestAccept)
			nstest.Must(t, r.accept(held[1]))
			if received(t, f.pod, 1) != 1 {
				t.Error("the accepted packet was not delivered")
			}
			nothing(t, f.pod)
			if c.name != "protocols" { // the flow was settled, rightly
				p.awaitFlows(t, 0)
			}
			nstest.Must(t, r.Close())
			nstest.Must(t, rmmod())
		})
	}
}

// Requests are heeded only where settling has been on: a pod's own priorities
// mean nothing before.
func TestPriorityBeforeSettling(t *testing.T) {
	load(t, "")
	n := newNode(t)
	p := n.newPod(t)
	p.Run(t, "nft", `add table ip own; add chain ip own out { type filter hook output priority -300; };
		add rule ip own out meta priority set 0x81000001`)
	f := newFlow(t, n, p, false)
	r := p.newReader(t, 80)
	p.set(t, "protocols", "tcp")
	p.set(t, "enabled", "1")
	for _, change := range []struct{ name, value string }{
		{"directions", "all"}, {"generation", "1"}, {"generation", "0"}, {"enabled", "0"},
	} {
		p.set(t, change.name, change.value)
		f.out(t, []byte("x"))
		if received(t, f.node, 1) != 1 {
			t.Errorf("%s=%s: a packet with a priority of the pod's was not delivered",
				change.name, change.value)
		}
	}
	nstest.Must(t, r.Close())
}
