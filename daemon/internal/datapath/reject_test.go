// SPDX-License-Identifier: Apache-2.0

//go:build netns

package datapath

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// What the inspector rejects is counted, and the client told, until it is too much. The
// inspector does not see what tells the peer.
func TestReject(t *testing.T) {
	n := start(t, inspect.Func(func(p *inspect.Packet) inspect.Verdict {
		if f, ok := p.Flow(); ok && f.Protocol == inspect.ProtoTCP {
			return inspect.Verdict{Action: inspect.Reject}
		}
		return inspect.Verdict{Action: inspect.Accept}
	}), nil)
	pod, peer := nstest.Pair(t)
	d := n.up(pod)
	server := netip.AddrPortFrom(pod.IPv4(), uint16(pod.ListenTCP(t, pod.IPv4().String()+":0").
		Addr().(*net.TCPAddr).Port))
	nstest.Must(t, peer.Try(func() error {
		c, err := net.DialTimeout("tcp", server.String(), patience)
		if err == nil {
			_ = c.Close()
		}
		if !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%v, want %v", err, unix.ECONNREFUSED)
		}
		return nil
	}))
	nstest.Eventually(t, patience, "the packet is counted, and no other", func() bool {
		c := d.Counters()
		return c.Rejected == 1 && c.Untold == 0 && c.Packets == c.Accepted+c.Rejected
	})
	nstest.Must(t, d.Down(false))
	n.wantNothing(pod, peer)
}
