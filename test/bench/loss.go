// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"

	"github.com/nsqueue/nsqueue/test/bench/report"
)

// measureLoss sends steadily through nsqueued with its defaults.
func measureLoss(ctx context.Context, o *options, r *report.Report) error {
	progress("loss: %d packets/s for %d s", o.size.rate, o.size.loss)
	b, err := newBed(o, "loss")
	if err != nil {
		return err
	}
	if err := b.arm(ctx, ""); err != nil {
		return err
	}
	c := &contender{name: report.Full, bed: b}
	read, err := c.start(ctx)
	if err != nil {
		return err
	}
	m, err := c.udp(read, "pace", o.size.rate*o.size.loss, o.size.rate)
	if err := errors.Join(err, c.sawPackets(read), read.stop()); err != nil {
		return err
	}
	r.Loss = &report.Loss{
		Rate: o.size.rate, Seconds: m.Seconds, Sent: m.Sent, Delivered: m.Delivered,
		QueueDropped: m.dropped, CPUPerPacket: m.cpuPerPacket(),
	}
	return b.remove(ctx)
}
