// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nsqueue/nsqueue/test/bench/report"
)

// measureContenders lets all readers take turns, in each round beginning with
// another one.
func measureContenders(ctx context.Context, o *options, r *report.Report) error {
	progress("making two netns and a veth pair for each kind of rules")
	beds := make([]*bed, 3)
	for i, name := range []string{"bare", "queued", "settled"} {
		var err error
		if beds[i], err = newBed(o, name); err != nil {
			return err
		}
	}
	all, err := contenders(o, beds[0], beds[1], beds[2])
	if err != nil {
		return err
	}
	if err := armBeds(ctx, beds, all); err != nil {
		return err
	}
	for _, c := range all {
		r.Rows = append(r.Rows, report.Row{
			Name: c.name, Label: c.label, Unavailable: c.unavailable,
		})
	}
	for round := range o.rounds {
		for i := range all {
			turn := (i + round) % len(all)
			c := all[turn]
			if c.unavailable != "" {
				continue
			}
			took, err := c.measure(ctx, &r.Rows[turn])
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			progress("round %d of %d: %-18s %4.1f s  %s", round+1, o.rounds, c.name,
				took.Seconds(), latest(&r.Rows[turn]))
		}
	}
	var errs []error
	for _, b := range beds {
		errs = append(errs, b.remove(ctx))
	}
	return errors.Join(errs...)
}

// armBeds puts the rules into the second bed and, if this build of nsqueued can
// settle flows, into the third.
func armBeds(ctx context.Context, beds []*bed, all []*contender) error {
	if err := beds[1].arm(ctx, ""); err != nil {
		return err
	}
	err := beds[2].arm(ctx, settleConfig)
	if err == nil || !strings.Contains(err.Error(), settleKey) {
		return err
	}
	for _, c := range all {
		if c.bed == beds[2] {
			c.unavailable = "not available in this build"
		}
	}
	return nil
}

// latest prints the round's main values.
func latest(row *report.Row) string {
	var words []string
	for _, m := range []struct{ metric, format string }{
		{report.FloodCPU, "saturated %.2f µs"},
		{report.PaceCPU, "paced %.2f µs"},
		{report.TCPRate, "TCP %.2f Gbit/s"},
		{report.PingP50, "round trip %.1f µs"},
	} {
		if s, ok := row.Metrics[m.metric]; ok {
			words = append(words, fmt.Sprintf(m.format, s.Rounds[len(s.Rounds)-1]))
		}
	}
	return strings.Join(words, ", ")
}

// measure is one contender's turn.
func (c *contender) measure(ctx context.Context, row *report.Row) (time.Duration, error) {
	began := time.Now()
	read, err := c.start(ctx)
	if err != nil {
		return 0, err
	}
	o := c.bed.options
	var errs []error
	if o.has(partUDP) {
		errs = append(errs, c.flood(read, row), c.pace(read, row))
	}
	if o.has(partTCP) {
		errs = append(errs, c.tcp(read, row), c.beside(read, row))
	}
	if o.has(partLatency) {
		errs = append(errs, c.ping(read, row))
	}
	errs = append(errs, c.sawPackets(read), read.stop())
	return time.Since(began), errors.Join(errs...)
}

func (c *contender) flood(read *reader, row *report.Row) error {
	s := &c.bed.options.size
	m, err := c.udp(read, "flood", s.flood, s.window)
	if err != nil {
		return err
	}
	if read.pid != 0 {
		row.Add(report.FloodCPU, m.cpuPerPacket())
		row.Add(report.FloodDrop, float64(m.dropped))
	}
	row.Add(report.FloodRate, float64(m.Delivered)/m.Seconds)
	row.Add(report.FloodSent, float64(m.Sent))
	row.Add(report.FloodLost, float64(m.Sent-m.Delivered))
	return nil
}

func (c *contender) pace(read *reader, row *report.Row) error {
	s := &c.bed.options.size
	m, err := c.udp(read, "pace", s.pace, s.rate)
	if err != nil {
		return err
	}
	if read.pid != 0 {
		row.Add(report.PaceCPU, m.cpuPerPacket())
		row.Add(report.PaceDrop, float64(m.dropped))
	}
	row.Add(report.PaceSent, float64(m.Sent))
	row.Add(report.PaceLost, float64(m.Sent-m.Delivered))
	return nil
}

// measured is a delivery and what it took the reader.
type measured struct {
	delivery

	cpu     time.Duration
	dropped int64
}

func (m *measured) cpuPerPacket() float64 {
	return float64(m.cpu.Nanoseconds()) / 1000 / float64(max(m.Delivered, 1))
}

// udp sends UDP packets and measures the reader meanwhile, if there is one.
func (c *contender) udp(read *reader, kind string, count, rate int) (m measured, err error) {
	if read.pid == 0 {
		m.delivery, err = c.bed.traffic(kind, count, rate)
		return m, err
	}
	before, err := statQueue(c.bed.pod)
	if err != nil {
		return m, err
	}
	m.cpu, err = read.cpuDuring(func() error {
		m.delivery, err = c.bed.traffic(kind, count, rate)
		return err
	})
	if err != nil {
		return m, err
	}
	after, err := statQueue(c.bed.pod)
	m.dropped = after.queueDropped + after.userDropped - before.queueDropped - before.userDropped
	return m, err
}

func (c *contender) tcp(read *reader, row *report.Row) error {
	seconds := c.bed.options.size.tcp
	var rate float64
	run := func() (err error) {
		rate, err = c.bed.tcp(seconds)
		return err
	}
	if read.pid == 0 {
		if err := run(); err != nil {
			return err
		}
		row.Add(report.TCPRate, rate)
		return nil
	}
	cpu, err := read.cpuDuring(run)
	if err != nil {
		return err
	}
	row.Add(report.TCPRate, rate)
	row.Add(report.TCPCPU, 100*cpu.Seconds()/float64(seconds))
	return nil
}

// beside compares the throughput with the rival's in turns of a second: it
// changes within a few.
func (c *contender) beside(read *reader, row *report.Row) error {
	if c.rival == nil {
		return nil
	}
	const seconds = 1
	var own, rivals float64
	turn := func(b *bed, sum *float64) func() error {
		return func() error {
			rate, err := b.tcp(seconds)
			*sum += rate
			return err
		}
	}
	self, rival := turn(c.bed, &own), turn(c.rival, &rivals)
	if read.unwatched != nil {
		run := rival
		rival = func() error { return read.unwatched(run) }
	}
	for i := range c.bed.options.size.tcpTurns {
		order := []func() error{self, rival}
		if i%2 == 1 {
			slices.Reverse(order)
		}
		for _, run := range order {
			if err := run(); err != nil {
				return err
			}
		}
	}
	row.Add(report.TCPBeside, own/rivals)
	return nil
}

func (c *contender) ping(read *reader, row *report.Row) error {
	s := &c.bed.options.size
	m, err := c.udp(read, "ping", s.ping, s.pingRate)
	if err != nil {
		return err
	}
	if m.Delivered < m.Sent {
		return fmt.Errorf("ping: %d of %d answered", m.Delivered, m.Sent)
	}
	row.Add(report.PingP50, m.P50)
	row.Add(report.PingP99, m.P99)
	if read.pid != 0 {
		row.Add(report.PingCPU, m.cpuPerPacket()/2)
	}
	return nil
}

// sawPackets makes sure that the traffic went through the queue.
func (c *contender) sawPackets(read *reader) error {
	if read.pid == 0 {
		return nil
	}
	s, err := statQueue(c.bed.pod)
	if err == nil && s.sequence == 0 {
		err = errors.New("no packet was queued")
	}
	return err
}
