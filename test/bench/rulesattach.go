// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/bench/report"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// measureRulesAttach compares how long attaching a pod takes with 1,000 rules and without.
// What settles flows is in the kernel either way, and is compared with that it is not.
func measureRulesAttach(ctx context.Context, b *bed, single *report.Row) error {
	progress("rules: %d pods are attached with 1,000 rules and without", b.options.size.attachPods)
	dir, err := writeRules("attach", rulesOf(1000, true))
	if err != nil {
		return err
	}
	plain, err := b.attachTimes(ctx, "", "")
	if err != nil {
		return err
	}
	settling, err := b.attachTimes(ctx, settleConfig, "")
	if err != nil {
		return err
	}
	ruled, err := b.attachTimes(ctx, "", dir)
	if err != nil {
		return err
	}
	single.Add(report.SettleAttach, (median(settling)-median(plain))/1000)
	single.Add(report.RulesAttach, (median(ruled)-median(settling))/1000)
	return nil
}

// attachTimes attaches pods to a daemon that has no other.
func (b *bed) attachTimes(ctx context.Context, config, rules string) ([]time.Duration, error) {
	alone := &bed{name: "attach", options: b.options}
	d, err := alone.judge(config, rules)
	if err != nil {
		return nil, err
	}
	if err := d.Start(ctx); err != nil {
		return nil, err
	}
	times := make([]time.Duration, b.options.size.attachPods)
	for i := range times {
		if times[i], err = attachOnce(ctx, d.Client, i); err != nil {
			return nil, errors.Join(err, d.Kill())
		}
	}
	return times, d.Stop()
}

// attachOnce attaches a new netns, detaches it, and returns how long the first took.
func attachOnce(ctx context.Context, client *api.Client, i int) (time.Duration, error) {
	ns, err := nstest.Create("attach")
	if err != nil {
		return 0, err
	}
	f, err := os.Open(ns.Path())
	if err != nil {
		return 0, err
	}
	defer f.Close()
	took, err := timed(func() error {
		_, err := client.Attach(ctx, api.AttachRequest{
			Key: key(i), Origin: api.OriginManual, NetnsPath: ns.Path(),
		}, f)
		return err
	})
	return took, errors.Join(err, client.Detach(ctx, key(i)), ns.Remove())
}
