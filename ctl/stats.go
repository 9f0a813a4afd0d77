// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/options"
	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/ctl/internal/view"
	"github.com/nsqueue/nsqueue/daemon/api"
)

// statsFlags are the command's own flags.
type statsFlags struct {
	podFilter
	options.Loads
}

func newStats(run runner) *cobra.Command {
	var f statsFlags
	cmd := &cobra.Command{
		Use:     "stats",
		Aliases: []string{"top"},
		Short:   "Show packet rates per pod, live",
		Long: `Show the load of each attachment, again after each interval until Ctrl-C:
packets and bits per second, packets that verdicts drop or reject, flows that
are settled (the kernel decides the rest of them), the inspector's time per
packet, the packets that wait in the queues now, and the packets that the kernel
has lost there so far because a queue or the receive buffer of its reader was
full.

The busiest attachments come first, at most --limit of them. stats continues
when nsqueued restarts. -o json prints one JSON object per line, -o yaml one
document per interval.`,
		Example: `  nsqueuectl stats --sort drops
  nsqueuectl stats -n default --sort time
  nsqueuectl stats --once --limit 0 -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), func(ctx context.Context, c *command) error {
				return stats(ctx, c, f)
			})
		},
	}
	f.podFilter.addTo(cmd, run)
	f.Loads.AddTo(cmd)
	completeFlag(cmd, "sort", words(view.LoadColumns()...))
	return cmd
}

// sample has the counters at a time.
type sample struct {
	at          time.Time
	attachments []api.Attachment
}

func stats(ctx context.Context, c *command, f statsFlags) error {
	compare, err := f.Compare()
	if err != nil {
		return usageErrorf("%s", err)
	}
	if err := f.parse(); err != nil {
		return err
	}
	var last *sample
	look := func(ctx context.Context) error {
		next, err := c.sample(ctx, f.podFilter)
		if err == nil && last != nil {
			err = c.showLoads(ctx, &f.Loads, compare, last, next)
		}
		if err == nil {
			last = next
		}
		return err
	}
	if !f.Once {
		return c.refresh(ctx, f.Interval, look)
	}
	if err := look(ctx); err != nil || !pause(ctx, f.Interval) {
		return ignoreCanceled(ctx, err)
	}
	return ignoreCanceled(ctx, look(ctx))
}

func (c *command) sample(ctx context.Context, pods podFilter) (*sample, error) {
	l, err := call(ctx, c, c.client.List)
	l.Attachments = slices.DeleteFunc(l.Attachments, func(a api.Attachment) bool {
		return !pods.matches(a.Pod)
	})
	return &sample{at: c.now(), attachments: l.Attachments}, err
}

// showLoads prints what happened between two samples.
func (c *command) showLoads(
	ctx context.Context, f *options.Loads, compare func(a, b view.Load) int, from, to *sample,
) error {
	all := loadsBetween(from, to)
	slices.SortStableFunc(all.Attachments, compare)
	if n := f.Limit; n > 0 && n < len(all.Attachments) {
		all.Attachments = all.Attachments[:n]
	}
	for i := range all.Attachments {
		if err := c.addQueues(ctx, &all.Attachments[i]); err != nil {
			return err
		}
	}
	if c.printer().Structured() {
		return c.writeOne(!f.Once, all)
	}
	return c.show(!f.Once, func() error { return c.writeLoads(&all, len(to.attachments)) })
}

// addQueues asks what waits and was lost. An attachment that is gone has neither.
func (c *command) addQueues(ctx context.Context, l *view.Load) error {
	d, err := c.describe(ctx, l.Key)
	if err != nil && api.CodeOf(err) != api.CodeNotAttached {
		return err
	}
	for _, q := range d.QueueStates {
		l.Waiting += uint64(q.Waiting)
		l.KernelDropped += q.QueueDropped + q.UserDropped
	}
	return nil
}

// loadsBetween returns those of all attachments that are in both samples; a new
// one has counted from zero.
func loadsBetween(from, to *sample) view.Loads {
	before := make(map[api.Key]*api.Attachment)
	for i := range from.attachments {
		before[from.attachments[i].Key] = &from.attachments[i]
	}
	all := view.Loads{
		Time: to.at.UTC(), Seconds: to.at.Sub(from.at).Seconds(), Attachments: []view.Load{},
	}
	for i := range to.attachments {
		a := &to.attachments[i]
		var last api.Counters
		if b := before[a.Key]; b != nil {
			last = b.Counters
		}
		if last.Packets > a.Counters.Packets { // another daemon, or another attachment
			last = api.Counters{}
		}
		all.Attachments = append(all.Attachments, loadOf(a, last, all.Seconds))
	}
	return all
}

func loadOf(a *api.Attachment, last api.Counters, seconds float64) view.Load {
	per := func(to, from uint64) float64 {
		if seconds <= 0 {
			return 0
		}
		return float64(to-min(from, to)) / seconds
	}
	n := &a.Counters
	micros := 0.0
	if packets := n.Packets - min(last.Packets, n.Packets); packets > 0 {
		took := n.InspectNanoseconds - min(last.InspectNanoseconds, n.InspectNanoseconds)
		micros = float64(took) / 1000 / float64(packets)
	}
	return view.Load{
		Key: a.Key, Pod: a.Pod,
		PacketsPerSecond: per(n.Packets, last.Packets),
		BitsPerSecond:    8 * per(n.Bytes, last.Bytes),
		DroppedPerSecond: per(n.Dropped+n.Rejected, last.Dropped+last.Rejected),
		SettledPerSecond: per(n.Settled, last.Settled), InspectMicroseconds: micros,
	}
}

func (c *command) writeLoads(all *view.Loads, attachments int) error {
	fmt.Fprintf(c.out, "%s  %s, %d shown\n", all.Time.Format(time.RFC3339),
		text.Plural(attachments, "attachment"), len(all.Attachments))
	return c.printer().Table(view.LoadTable(all.Attachments))
}
