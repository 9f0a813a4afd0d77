// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/bench/report"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/damage/load"
)

// measureCrowd compares round trips of a pod while another one has more undecided flows
// than are remembered with those while nothing else happens.
func measureCrowd(ctx context.Context, b *bed, single *report.Row) error {
	progress("rules: %d undecided flows of another pod", b.options.size.crowd)
	dir, err := writeRules("crowd", rulesOf(10, false))
	if err != nil {
		return err
	}
	crowded, err := newBed(b.options, "crowd")
	if err != nil {
		return err
	}
	if err := crowded.routeStrangers(); err != nil {
		return err
	}
	d, err := b.judge("", dir)
	if err != nil {
		return err
	}
	if err := d.Start(ctx); err != nil {
		return err
	}
	for range b.options.size.crowdTurns {
		if err := b.besideCrowdOnce(ctx, d, crowded, single); err != nil {
			return errors.Join(err, d.Stop())
		}
	}
	return errors.Join(d.Stop(), crowded.remove(ctx))
}

// besideCrowdOnce begins with a crowded pod of which nothing is remembered.
func (b *bed) besideCrowdOnce(
	ctx context.Context, d *chain.Daemon, crowded *bed, single *report.Row,
) error {
	f, err := os.Open(crowded.pod.Path())
	if err != nil {
		return err
	}
	defer f.Close()
	key := api.Key{ContainerID: "crowd", Ifname: "eth0"}
	_, err = d.Client.Attach(ctx, api.AttachRequest{
		Key: key, Origin: api.OriginManual, NetnsPath: crowded.pod.Path(),
	}, f)
	if err != nil {
		return err
	}
	return errors.Join(b.besideCrowd(crowded, single), d.Client.Detach(ctx, key))
}

// routeStrangers has the pod answer strangers to its peer, which does not know them.
func (b *bed) routeStrangers() error {
	_, to, err := net.ParseCIDR(load.Strangers)
	if err != nil {
		return err
	}
	return b.pod.Try(func() error {
		return netlink.RouteAdd(&netlink.Route{Dst: to, Gw: net.IPv4(10, 99, 0, 1)})
	})
}

// crowdPings is how many round trips there are a second. The crowd sends some packets each
// millisecond: in step with them, what is measured would be the step.
const crowdPings = 977

// besideCrowd measures round trips without the crowd and with it.
func (b *bed) besideCrowd(crowded *bed, single *report.Row) error {
	size := &b.options.size
	count := max(size.crowd/size.crowdRate*crowdPings, size.ping)
	before, err := b.traffic("ping", count, crowdPings)
	if err != nil {
		return err
	}
	const port = 443
	cmd := crowded.client.Command(b.loadProgram(), "open",
		fmt.Sprintf("%s:%d", podAddress, port), fmt.Sprint(size.crowd), fmt.Sprint(size.crowdRate))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	beside, err := b.traffic("ping", count, crowdPings)
	if err := errors.Join(err, cmd.Wait()); err != nil {
		return err
	}
	if beside.Delivered < beside.Sent {
		return fmt.Errorf("beside undecided flows: %d of %d answered", beside.Delivered,
			beside.Sent)
	}
	single.Add(report.CrowdRatio, beside.P99/before.P99)
	return nil
}
