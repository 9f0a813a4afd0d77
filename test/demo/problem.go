// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"strings"

	"github.com/nsqueue/nsqueue/test/chain"
)

const (
	allArrived  = "2 packets received, 0% packet loss"
	noneArrived = "0 packets received, 100% packet loss"
)

// stockPodsPing is step 1: a cluster's network as it comes.
func (d *demo) stockPodsPing(ctx context.Context) error {
	d.screen.title(1, "Two pods, made through the stock flannel conflist")
	if err := d.createPods(ctx, chain.Config{Stock: true}); err != nil {
		return err
	}
	out := d.ping(d.pods[1], d.pods[0])
	err := errIf(!strings.Contains(out, allArrived), "busybox2 cannot ping busybox1")
	if err != nil {
		return err
	}
	d.screen.shown("The pods reach each other.")
	return nil
}

// hostReaderSeesNothing is step 2: the queue exists, in another netns.
func (d *demo) hostReaderSeesNothing(context.Context) error {
	d.screen.title(2, "ICMP to busybox1 goes to queue 80, which is read in the node's netns")
	reader, err := openReader(d.screen)
	if err != nil {
		return err
	}
	defer reader.close()
	if _, err := d.screen.run("cat", "/proc/net/netfilter/nfnetlink_queue"); err != nil {
		return err
	}
	if err := d.rule("-A"); err != nil {
		return err
	}
	out := d.ping(d.pods[1], d.pods[0])
	if err := errIf(!strings.Contains(out, noneArrived), "the ping is not lost"); err != nil {
		return err
	}
	if err := d.rule("-D"); err != nil {
		return err
	}
	n := reader.count()
	if err := errIf(n != 0, "the node's reader saw %d packets", n); err != nil {
		return err
	}
	d.screen.shown("100 %% loss, and the reader saw %d packets: queues belong to a netns, and in\n"+
		"   busybox1's nobody reads queue 80, so the kernel drops what is sent there.", n)
	return nil
}

// bypassPassesUnseen is step 3: the kernel's way out keeps pods alive, blindly.
func (d *demo) bypassPassesUnseen(context.Context) error {
	d.screen.title(3, "The same with the bypass switch")
	reader, err := openReader(d.screen)
	if err != nil {
		return err
	}
	defer reader.close()
	if err := d.rule("-A", "--queue-bypass"); err != nil {
		return err
	}
	out := d.ping(d.pods[1], d.pods[0])
	if err := errIf(!strings.Contains(out, allArrived), "the ping is lost"); err != nil {
		return err
	}
	n := reader.count()
	if err := errIf(n != 0, "the node's reader saw %d packets", n); err != nil {
		return err
	}
	d.screen.shown("The pods reach each other again, and the reader saw %d packets: nothing is\n"+
		"   inspected.", n)
	return nil
}

// rule adds or deletes the rule that queues ICMP in busybox1's netns.
func (d *demo) rule(action string, options ...string) error {
	args := append([]string{
		"--net=" + d.pods[0].NetNS.Path(),
		"iptables", action, "INPUT", "-p", "icmp", "-j", "NFQUEUE", "--queue-num", "80",
	}, options...)
	_, err := d.screen.run("nsenter", args...)
	return err
}
