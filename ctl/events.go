// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/daemon/api"
)

// followPoll is how often the command asks for what is new.
const followPoll = 500 * time.Millisecond

func newEvents(run runner) *cobra.Command {
	follow := false
	var pods podFilter
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show what happened to attachments",
		Long: `Show the latest events, the oldest first: pods that nsqueued attached, detached
or took over from an earlier nsqueued, packets that a killed nsqueued had read
but not answered (orphans), repairs, failures, full queues and slow inspectors
(overload), pods that disappeared without a DEL, and programs in a pod's netns
that interfere with nsqueued (security). nsqueued remembers the last 512 events;
its log has all of them.

With --follow it continues until Ctrl-C, also when nsqueued restarts. -o json
then prints one JSON object per line, -o yaml one document per event.`,
		Example: `  nsqueuectl events --pod default/busybox1
  nsqueuectl events --follow -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), func(ctx context.Context, c *command) error {
				if err := pods.parse(); err != nil {
					return err
				}
				if follow {
					return followEvents(ctx, c, pods)
				}
				return events(ctx, c, pods)
			})
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "continue with new events")
	pods.addTo(cmd, run)
	return cmd
}

func (c *command) fetchEvents(ctx context.Context, pods podFilter) ([]api.Event, error) {
	list, err := call(ctx, c, c.client.Events)
	return slices.DeleteFunc(list, func(e api.Event) bool { return !pods.matches(e.Pod) }), err
}

func events(ctx context.Context, c *command, pods podFilter) error {
	list, err := c.fetchEvents(ctx, pods)
	if err != nil {
		return err
	}
	if c.structured() {
		return c.writeObject(api.EventList{Events: list})
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(c.err, "No events.")
		return err
	}
	t := text.Table{
		Head:    []string{"TIME", "KIND", "ATTACHMENT", "POD", "MESSAGE"},
		Elastic: "POD", Spare: []string{"ATTACHMENT"}, Prose: true,
	}
	for i := range list {
		e := &list[i]
		t.Add(eventTime(e), string(e.Kind), c.id(e.ContainerID)+"/"+e.Ifname, e.Pod.String(),
			e.Message)
	}
	return c.writeTable(&t)
}

func eventTime(e *api.Event) string { return e.Time.UTC().Format(time.RFC3339) }

// followEvents prints events as they happen, also those of later daemons.
func followEvents(ctx context.Context, c *command, pods podFilter) error {
	var seen []api.Event
	return c.refresh(ctx, followPoll, func(ctx context.Context) error {
		list, err := c.fetchEvents(ctx, pods)
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
	if c.structured() {
		return c.writeItem(e)
	}
	return c.printLine("%s  %-10s  %s/%s  %s  %s", eventTime(e), e.Kind,
		shortID(e.ContainerID), e.Ifname, e.Pod, strings.Join(strings.Fields(e.Message), " "))
}
