// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/nsqueue/nsqueue/test/bench/report"
)

// What is measured of a contender.
const (
	perFlow   = "microseconds a flow"
	perPacket = "microseconds a packet"
	once      = "milliseconds, flows apart"
	refusals  = "refused"
)

func columns() [][2]string {
	return [][2]string{
		{"µs/flow", perFlow},
		{"µs/packet", perPacket},
		{"start ms", once},
		{"refused", refusals},
	}
}

// contender reads captures.
type contender interface {
	name() string
	// prepare writes rules that refuse so many names.
	prepare(dir string, number int) error
	// read returns the processor time that a capture takes, and how often each rule has
	// refused.
	read(ctx context.Context, c capture) (time.Duration, map[string]int, error)
}

// match is what the contenders are measured with.
type match struct {
	dir      string
	number   int // of rules
	all      []contender
	captures []capture
}

// measure lets both take turns, and returns a row of each.
func measure(ctx context.Context, o *options, m *match) (ours, theirs report.Row, err error) {
	rows := make([]report.Row, len(m.all))
	for i, c := range m.all {
		rows[i].Label = fmt.Sprintf("%s, %d", c.name(), m.number)
		dir := filepath.Join(m.dir, fmt.Sprint(m.number))
		if err := c.prepare(dir, m.number); err != nil {
			return ours, theirs, err
		}
	}
	for round := range o.rounds {
		progress("%d rules, round %d of %d", m.number, round+1, o.rounds)
		for i := range m.all {
			turn := (i + round) % len(m.all)
			if err := m.turn(ctx, m.all[turn], &rows[turn]); err != nil {
				return ours, theirs, fmt.Errorf("%s: %w", m.all[turn].name(), err)
			}
		}
	}
	return rows[0], rows[1], nil
}

// turn has a contender read both captures, and compares what it refused with what it was
// to refuse.
func (m *match) turn(ctx context.Context, c contender, row *report.Row) error {
	took := make([]time.Duration, len(m.captures))
	for i, of := range m.captures {
		var refused map[string]int
		var err error
		if took[i], refused, err = c.read(ctx, of); err != nil {
			return err
		}
		if want := of.refusedBy(m.number); !maps.Equal(refused, want) {
			return fmt.Errorf("refused %d of %s, want %d: %s", sum(refused),
				filepath.Base(of.path), sum(want), difference(refused, want))
		}
	}
	first, second := &m.captures[0], &m.captures[1]
	cost := took[1] - took[0]
	row.Add(perFlow, micros(cost)/float64(second.flows-first.flows))
	row.Add(perPacket, micros(cost)/float64(second.packets-first.packets))
	row.Add(once, micros(2*took[0]-took[1])/1000)
	row.Add(refusals, float64(sum(second.refusedBy(m.number))))
	return nil
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

func sum(counts map[string]int) (n int) {
	for _, one := range counts {
		n += one
	}
	return n
}

// difference names a rule that refused more or less often than it was to.
func difference(got, want map[string]int) string {
	for _, both := range []map[string]int{want, got} {
		for name := range both {
			if got[name] != want[name] {
				return fmt.Sprintf("rule %s %d times, want %d", name, got[name], want[name])
			}
		}
	}
	return "nothing"
}

// spent is the processor time of a program that has ended.
func spent(cmd *exec.Cmd) time.Duration {
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}
