// SPDX-License-Identifier: Apache-2.0

package hooktest

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/test/nstest"
)

func testOriginMark(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	f.arm(all())
	seen := read(t, f.ns)
	f.pod.Run(t, "nft", `add table ip marks;
		add chain ip marks before { type filter hook output priority -300; };
		add rule ip marks before meta mark set 0x42;
		add chain ip marks after { type filter hook output priority 0; };
		add rule ip marks after meta mark != 0x42 drop`)
	if got := f.udp(3); got != 3 {
		t.Errorf("%d of 3 datagrams kept their mark", got)
	}
	marked := func(p *record) bool { return p.mark == 0x42 && p.direction == inspect.Out }
	if got := seen.count(marked); got != 3 {
		t.Errorf("the reader saw the mark on %d of 3 packets", got)
	}
}

func testMarkRouting(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	other := f.markedRoute(5)
	f.arm(all())
	read(t, f.ns)
	to := f.peer.ListenUDP(t, netip.AddrPortFrom(other, 0).String())
	from := f.pod.DialUDP(t, to.LocalAddr().String(), nstest.Mark(5))
	for i := range 5 {
		_, err := fmt.Fprint(from, i)
		nstest.Must(t, err)
	}
	if got := receive(t, to, 5); got != 5 {
		t.Errorf("%d of 5 datagrams took the marked route", got)
	}
}

// markedRoute gives the peer a second address that the pod only reaches with
// packets of the mark, and returns it.
func (f *fixture) markedRoute(mark uint32) netip.Addr {
	f.Helper()
	other := netip.MustParseAddr("10.98.0.2")
	nstest.Must(f.T, f.peer.Try(func() error {
		return addAddress("eth0", netip.PrefixFrom(other, 32))
	}))
	nstest.Must(f.T, f.pod.Try(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		rule := netlink.NewRule()
		rule.Mark, rule.Table = mark, 105
		route := &netlink.Route{
			LinkIndex: link.Attrs().Index, Table: rule.Table,
			Dst: netlink.NewIPNet(other.AsSlice()),
		}
		return errors.Join(netlink.RuleAdd(rule), netlink.RouteAdd(route))
	}))
	return other
}
