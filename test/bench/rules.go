// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nsqueue/nsqueue/test/bench/report"
)

// Where the peer of the pod serves.
const (
	tlsAddress = "10.99.0.1:443"
	dnsAddress = "10.99.0.1:53"
)

// measureRules measures nsqueued with rules beside nsqueued without.
func measureRules(ctx context.Context, o *options, r *report.Report) error {
	b, err := newBed(o, "rules")
	if err != nil {
		return err
	}
	if err := b.arm(ctx, settleConfig); err != nil {
		return err
	}
	all, err := ruled(b)
	if err != nil {
		return err
	}
	stop, err := b.serve()
	if err != nil {
		return err
	}
	defer stop()
	r.Rules = &report.Rules{}
	for _, c := range all {
		r.Rules.Rows = append(r.Rules.Rows, report.Row{Name: c.name, Label: c.label})
	}
	if err := takeTurns(ctx, o, all, r.Rules.Rows); err != nil {
		return err
	}
	r.Rules.Single.Name = "single"
	for _, measure := range []func(context.Context, *bed, *report.Row) error{
		measureReject, measureReload, measureCrowd, measureRulesAttach,
	} {
		if err := measure(ctx, b, &r.Rules.Single); err != nil {
			return err
		}
	}
	return errors.Join(measureMemory(&r.Rules.Single), measureDecisions(&r.Rules.Single),
		b.remove(ctx))
}

// ruled returns the rows in the report's order.
func ruled(b *bed) ([]*contender, error) {
	all := []*contender{
		{name: report.RulesNone, label: "accepts everything"},
		{name: report.Rules10Open, label: "10 rules, not settled", rules: rulesOf(10, false)},
		{name: report.Rules10, label: "10 rules", rules: rulesOf(10, true)},
		{name: report.Rules1000, label: "1,000 rules", rules: rulesOf(1000, true)},
		{name: report.RulesDNS, label: "100 rules for names of queries", rules: queryRules(100)},
	}
	for _, c := range all {
		c.bed = b
		if c.rules == "" {
			continue
		}
		var err error
		if c.rules, err = writeRules(c.name, c.rules); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// takeTurns measures each of the contenders in each round, beginning with another one.
func takeTurns(ctx context.Context, o *options, all []*contender, rows []report.Row) error {
	for round := range o.rounds {
		for i := range all {
			turn := (i + round) % len(all)
			c, row := all[turn], &rows[turn]
			read, err := c.start(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			err = errors.Join(c.flood(read, row), c.connections(read, row), c.queries(read, row),
				c.sawPackets(read), read.stop())
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			progress("round %d of %d: %-18s UDP %.2f µs, TLS %.1f µs, DNS %.1f µs", round+1,
				o.rounds, c.name, last(row, report.FloodCPU), last(row, report.TLSCPU),
				last(row, report.DNSCPU))
		}
		if err := askInTurns(ctx, o.size.queryTurns, all, rows); err != nil {
			return err
		}
	}
	return nil
}

// askInTurns measures queries once more, judged by rules and by none. What a query costs
// changes within seconds, so the two follow each other closely.
func askInTurns(ctx context.Context, turns int, all []*contender, rows []report.Row) error {
	var pair []int
	for i, c := range all {
		if c.name == report.RulesNone || c.name == report.RulesDNS {
			pair = append(pair, i)
		}
	}
	for range turns {
		for _, i := range pair {
			read, err := all[i].start(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", all[i].name, err)
			}
			if err := errors.Join(all[i].queries(read, &rows[i]), read.stop()); err != nil {
				return fmt.Errorf("%s: %w", all[i].name, err)
			}
		}
		slices.Reverse(pair)
	}
	return nil
}

func last(row *report.Row, metric string) float64 {
	rounds := row.Metrics[metric].Rounds
	return rounds[len(rounds)-1]
}

// connections measures the reader for each TLS connection of the pod.
func (c *contender) connections(read *reader, row *report.Row) error {
	return c.load(read, row, report.TLSCPU, "tls", tlsAddress,
		fmt.Sprint(c.bed.options.size.connections), allowedName)
}

// queries measures the reader for each query of the pod and its answer.
func (c *contender) queries(read *reader, row *report.Row) error {
	return c.load(read, row, report.DNSCPU, "dns", dnsAddress,
		fmt.Sprint(c.bed.options.size.queries), allowedName)
}

func (c *contender) load(read *reader, row *report.Row, metric string, args ...string) error {
	var d delivery
	cpu, err := read.cpuDuring(func() (err error) {
		d, err = c.bed.load(args...)
		return err
	})
	if err != nil {
		return err
	}
	row.Add(metric, float64(cpu.Nanoseconds())/1000/float64(max(d.Delivered, 1)))
	return nil
}

func (b *bed) loadProgram() string { return filepath.Join(b.options.bin, "test", "bench-load") }

// load has the pod make connections or queries.
func (b *bed) load(args ...string) (delivery, error) {
	var d delivery
	cmd := b.pod.Command(b.loadProgram(), args...)
	var log strings.Builder
	cmd.Stderr = &log
	out, err := cmd.Output()
	if err != nil {
		return d, fmt.Errorf("load %s: %w: %s", args[0], err, log.String())
	}
	if err := json.Unmarshal(out, &d); err != nil {
		return d, fmt.Errorf("load %s: %w: %s", args[0], err, out)
	}
	return d, nil
}

// serve has the peer of the pod answer.
func (b *bed) serve() (stop func(), err error) {
	s, err := startProgram(b.client, []string{b.loadProgram(), "serve", tlsAddress, dnsAddress})
	if err != nil {
		return nil, err
	}
	return func() { _ = s.stop() }, nil
}

// measureReject measures how soon a client knows that it is refused.
func measureReject(ctx context.Context, b *bed, single *report.Row) error {
	progress("rules: connections that are refused")
	dir, err := writeRules("reject", rulesOf(10, true))
	if err != nil {
		return err
	}
	read, err := (&contender{name: "reject", bed: b, rules: dir}).start(ctx)
	if err != nil {
		return err
	}
	d, err := b.load("refused", tlsAddress, fmt.Sprint(b.options.size.refused), refusedName)
	if err := errors.Join(err, read.stop()); err != nil {
		return err
	}
	single.Add(report.RejectP50, d.P50/1000)
	single.Add(report.RejectP99, d.P99/1000)
	return nil
}
