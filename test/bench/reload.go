// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/nsqueue/nsqueue/test/bench/report"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/damage/load"
)

// reloadEvery is how often the rules change under load.
const reloadEvery = 250 * time.Millisecond

// measureReload changes one of 1,000 rules again and again while datagrams come to the
// pod, and counts what becomes of them. In turns it does the same without a change, to tell
// what the machine does.
func measureReload(ctx context.Context, b *bed, single *report.Row) error {
	progress("rules: 1,000 are reloaded under %d packets/s", b.options.size.rate)
	dir, err := writeRules("reload", reloadRules(0))
	if err != nil {
		return err
	}
	d, err := b.judge("", dir)
	if err != nil {
		return err
	}
	if err := d.Start(ctx); err != nil {
		return err
	}
	var missing, unseen float64
	for range b.options.size.reloadTurns {
		calm, err := b.steady(ctx, d, "")
		if err != nil {
			return errors.Join(err, d.Kill())
		}
		reloaded, err := b.steady(ctx, d, dir)
		if err != nil {
			return errors.Join(err, d.Kill())
		}
		single.Add(report.CalmGap, milliseconds(calm.Stall))
		single.Add(report.ReloadGap, milliseconds(reloaded.Stall))
		missing += float64(reloaded.Lost)
		unseen += float64(reloaded.Uninspected)
	}
	single.Add(report.ReloadLost, missing)
	single.Add(report.ReloadUnseen, unseen)
	return d.Stop()
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// reloadRules are 1,000 rules, of which the last but one is another one each time.
func reloadRules(n int) string {
	first := fmt.Sprintf("  - {name: now%d, when: server.port == %d, action: drop}\n", n, 1+n)
	return strings.Replace(rulesOf(1000, false), "rules:\n", "rules:\n"+first, 1)
}

// steady sends datagrams for some seconds. Where there is a directory, its rules change.
// It tells what became of the datagrams, and how many of those that arrived the daemon has
// not judged.
func (b *bed) steady(ctx context.Context, d *chain.Daemon, dir string) (load.Result, error) {
	before, err := inspected(ctx, d)
	if err != nil {
		return load.Result{}, err
	}
	got, err := b.datagrams(func() error {
		for n := range b.options.size.reloads {
			err := pass(ctx, reloadEvery)
			if err == nil && dir != "" {
				err = reloadOnce(ctx, d, dir, n+1)
			}
			if err != nil {
				return err
			}
		}
		return pass(ctx, reloadEvery)
	})
	if err != nil {
		return got, err
	}
	after, err := inspected(ctx, d)
	got.Uninspected = max(0, got.Sent-got.Lost-int(after-before))
	return got, err
}

// reloadOnce returns when the n-th other rules are in force.
func reloadOnce(ctx context.Context, d *chain.Daemon, dir string, n int) error {
	if err := replaceRules(dir, reloadRules(n)); err != nil {
		return err
	}
	r, err := d.Client.ReloadRules(ctx)
	if err == nil && len(r.Errors) > 0 {
		err = fmt.Errorf("reload rules: %v", r.Errors)
	}
	return err
}

// datagrams sends to the pod while it does something, and tells what became of them.
func (b *bed) datagrams(during func() error) (load.Result, error) {
	from, to, err := b.sockets()
	if err != nil {
		return load.Result{}, err
	}
	defer from.Close()
	defer to.Close()
	flow := load.NewFlow(from, to, b.options.size.rate)
	var running sync.WaitGroup
	var sent, received error
	running.Go(func() { sent = flow.Send() })
	running.Go(func() { received = flow.Receive() })
	err = during()
	flow.Stop()
	running.Wait()
	return flow.Result(), errors.Join(err, sent, received)
}

// sockets returns those of a flow from the client to the pod.
func (b *bed) sockets() (from, to *net.UDPConn, err error) {
	err = b.pod.Try(func() (err error) {
		to, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(podAddress)})
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	err = b.client.Try(func() (err error) {
		from, err = net.DialUDP("udp4", nil, to.LocalAddr().(*net.UDPAddr))
		return err
	})
	if err == nil {
		err = to.SetReadBuffer(receiveBuffer)
	}
	if err != nil {
		_ = to.Close()
	}
	return from, to, err
}

// inspected returns how many packets the daemon has judged.
func inspected(ctx context.Context, d *chain.Daemon) (uint64, error) {
	status, err := d.Client.Status(ctx)
	return status.Counters.Packets, err
}
