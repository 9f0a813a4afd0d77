// SPDX-License-Identifier: Apache-2.0

//go:build netns

package datapath

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/fdstore/fdstoretest"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// Packets whose verdict is deferred get the policy's, once, however their reader ends:
// none waits for its limit, and none is left to the next process.
func TestDeferredPacketsAreAnsweredAtTheEnd(t *testing.T) {
	const packets = 3
	for name, end := range map[string]func(*node, *fdstoretest.Supervisor, *Datapath){
		"down": func(n *node, _ *fdstoretest.Supervisor, d *Datapath) {
			nstest.Must(n.t, d.Down(false))
		},
		"suspend": func(n *node, _ *fdstoretest.Supervisor, d *Datapath) {
			_, err := d.Suspend()
			nstest.Must(n.t, err)
		},
		"hand over": func(n *node, s *fdstoretest.Supervisor, d *Datapath) {
			next, orphans := n.next(s, d)
			if orphans != 0 {
				n.t.Errorf("%d orphans", orphans)
			}
			nstest.Must(n.t, next.Up(n.hook, n.selector, &inspect.Attachment{}))
			nstest.Must(n.t, next.Down(false))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := fdstoretest.New(t)
			var deferred atomic.Int32
			held := make(chan inspect.Deferred, packets)
			n := start(t, inspect.Func(func(p *inspect.Packet) inspect.Verdict {
				if deferred.Add(1) > packets {
					return inspect.Verdict{Action: inspect.Accept}
				}
				d, ok := p.Defer(time.Minute)
				if !ok {
					t.Error("not deferred")
				}
				held <- d
				return inspect.Verdict{Action: inspect.Defer}
			}), func(n *node) {
				n.options.Queue.Defers = true
				n.selector.Bypass, n.selector.Directions = true, hook.Out
			})
			n.restart(s)
			pod, peer := nstest.Pair(t)
			d := n.up(pod)
			s.Await(2)
			to := peer.ListenUDP(t, netip.AddrPortFrom(peer.IPv4(), 0).String())
			from := pod.DialUDP(t, to.LocalAddr().String())
			for range packets {
				_, err := from.Write([]byte("waits"))
				nstest.Must(t, err)
			}
			nstest.Eventually(t, patience, "all are deferred", func() bool {
				return d.Counters().Deferred == packets
			})
			end(n, s, d)
			for range packets {
				nstest.Must(t, to.SetReadDeadline(time.Now().Add(patience)))
				_, err := to.Read(make([]byte, 16))
				nstest.Must(t, err)
				if (<-held).Release(inspect.Verdict{Action: inspect.Drop}) {
					t.Error("released after the end")
				}
			}
			if c := d.Counters(); c.Expired != packets || c.Accepted != packets || c.Errors != 0 {
				t.Errorf("%+v", c)
			}
			n.wantNothing(pod, peer)
		})
	}
}
