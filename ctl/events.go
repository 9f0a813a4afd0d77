// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/view"
	"github.com/nsqueue/nsqueue/daemon/api"
)

// followPoll is how often the command asks for what is new.
const followPoll = 500 * time.Millisecond

func newEvents(run runner) *cobra.Command {
	follow := false
	var f eventFilter
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show what happened to attachments",
		Long: `Show the latest events, the oldest first: pods that nsqueued attached, detached
or took over from an earlier nsqueued, packets that a killed nsqueued had read
but not answered (orphans), repairs, failures, full queues and slow inspectors
(overload), pods that disappeared without a DEL, and programs in a pod's netns
that interfere with nsqueued (security). nsqueued remembers the last 512 events;
its log has all of them.

Where rules decide, events also tell what they refused (refusal), or would have
refused in mode Audit (audit): the rule, the address, and the name that was
asked for. nsqueued remembers the last 64 of each attachment and 512 in all,
apart from the other events. Those that are alike are one, with how often it
came. --rule and --verdict choose among them. The log does not have them.

With --follow it continues until Ctrl-C, also when nsqueued restarts. -o json
then prints one JSON object per line, -o yaml one document per event.`,
		Example: `  nsqueuectl events --pod default/busybox1
  nsqueuectl events --follow -o json
  nsqueuectl events --verdict reject --rule agents/default`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), func(ctx context.Context, c *command) error {
				if err := f.parse(); err != nil {
					return err
				}
				if follow {
					return followEvents(ctx, c, f)
				}
				return events(ctx, c, f)
			})
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "continue with new events")
	f.addTo(cmd, run)
	return cmd
}

// eventFilter says which events a command is about.
type eventFilter struct {
	podFilter

	rule, verdict string
}

func (f *eventFilter) addTo(cmd *cobra.Command, run runner) {
	f.podFilter.addTo(cmd, run)
	cmd.Flags().StringVar(&f.rule, "rule", "", "what `SET/RULE`, or SET, refused only")
	cmd.Flags().StringVar(&f.verdict, "verdict", "",
		"what was refused with `VERDICT` only: reject or drop")
	completeFlag(cmd, "rule", completeRules(run))
	completeFlag(cmd, "verdict", words("reject", "drop"))
}

func (f *eventFilter) parse() error {
	if err := api.ValidateRule(f.rule); err != nil {
		return usageErrorf("%s", err)
	}
	if f.verdict != "" && f.verdict != "reject" && f.verdict != "drop" {
		return usageErrorf("verdict %q: want reject or drop", f.verdict)
	}
	return f.podFilter.parse()
}

func (f *eventFilter) matchesEvent(e *api.Event) bool {
	return f.matches(e.Pod) && api.MatchRule(f.rule, e.Refusal.Rule) &&
		(f.verdict == "" || f.verdict == e.Refusal.Verdict)
}

func (c *command) fetchEvents(ctx context.Context, f eventFilter) ([]api.Event, error) {
	list, err := call(ctx, c, c.client.Events)
	return slices.DeleteFunc(list, func(e api.Event) bool { return !f.matchesEvent(&e) }), err
}

func events(ctx context.Context, c *command, f eventFilter) error {
	list, err := c.fetchEvents(ctx, f)
	if err != nil {
		return err
	}
	if c.printer().Structured() {
		return c.printer().Object(api.EventList{Events: list})
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(c.err, "No events.")
		return err
	}
	return c.printer().Table(view.Events(list, c.id))
}

// followEvents prints events as they happen, also those of later daemons.
func followEvents(ctx context.Context, c *command, f eventFilter) error {
	var seen []api.Event
	return c.refresh(ctx, followPoll, func(ctx context.Context) error {
		list, err := c.fetchEvents(ctx, f)
		if err != nil {
			return err
		}
		fresh := addedEvents(seen, list)
		seen = list
		return c.printEvents(fresh)
	})
}

// addedEvents returns the events of the later list that the earlier one lacks. The
// daemon forgets old events, and a restarted one knows none of them.
func addedEvents(earlier, later []api.Event) []api.Event {
	known := make(map[api.Event]int)
	for _, e := range earlier {
		known[instant(e)]++
	}
	return slices.DeleteFunc(slices.Clone(later), func(e api.Event) bool {
		known[instant(e)]--
		return known[instant(e)] >= 0
	})
}

// instant is the event with its time as an instant alone.
func instant(e api.Event) api.Event {
	e.Time = e.Time.Round(0).UTC()
	return e
}

func (c *command) printEvents(list []api.Event) error {
	for i := range list {
		e := &list[i]
		if err := c.printEvent(e); err != nil {
			return fmt.Errorf("print event: %w", err)
		}
	}
	return nil
}

func (c *command) printEvent(e *api.Event) error {
	if c.printer().Structured() {
		return c.printer().Item(e)
	}
	return c.printLine("%s", view.EventLine(e))
}
