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
	d.screen.title(2, "A rule sends busybox1's ICMP to queue 80; a program on the node reads 80")
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
	if err := errIf(n != 0, "the program on the node read %d packets", n); err != nil {
		return err
	}
	d.screen.shown("The program read %d packets. In busybox1's netns no program reads queue 80,\n"+
		"   so the kernel drops the packets.", n)
	return nil
}

// bypassPassesUninspected is step 3: with the kernel's bypass, pods keep their
// network and nothing is inspected.
func (d *demo) bypassPassesUninspected(context.Context) error {
	d.screen.title(3, "The same rule with --queue-bypass")
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
	if err := errIf(n != 0, "the program on the node read %d packets", n); err != nil {
		return err
	}
	d.screen.shown("The program read %d packets. The pods reach each other, uninspected.", n)
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
