// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// followPoll is how often the command asks for what is new.
const followPoll = 500 * time.Millisecond

func newEvents(run runner) *cobra.Command {
	follow := false
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show what happened without anybody's call",
		Long: `Show the latest events, the oldest first: pods taken over from an earlier
nsqueued, what that had in hand when it died (orphans), repairs, pods that are
gone without a DEL, and those who are in nsqueued's way in a netns. nsqueued
remembers the last 512; all of them are in its log.

With --follow it goes on until Ctrl-C, also over a restart of nsqueued; -o json
is one JSON object a line then, -o yaml a document each.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), func(ctx context.Context, c *command) error {
				if follow {
					return followEvents(ctx, c)
				}
				return events(ctx, c)
			})
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what happens from now on")
	return cmd
}

func (c *command) fetchEvents(ctx context.Context) ([]api.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.client.Events(ctx)
}

func events(ctx context.Context, c *command) error {
	list, err := c.fetchEvents(ctx)
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
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TIME\tKIND\tATTACHMENT\tPOD\tMESSAGE")
	for i := range list {
		e := &list[i]
		fmt.Fprintf(w, "%s\t%s\t%s/%s\t%s\t%s\n", eventTime(e), e.Kind,
			shortID(e.ContainerID), e.Ifname, e.Pod, e.Message)
	}
	return w.Flush()
}

func eventTime(e *api.Event) string { return e.Time.UTC().Format(time.RFC3339) }

// followEvents prints events as they happen, those of daemons to come as well.
func followEvents(ctx context.Context, c *command) error {
	seen, err := c.fetchEvents(ctx)
	if err != nil {
		return ended(ctx, err)
	}
	if err := c.printEvents(seen); err != nil {
		return err
	}
	tick := time.NewTicker(followPoll)
	defer tick.Stop()
	away := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		list, err := c.fetchEvents(ctx)
		switch {
		case err != nil && !errors.Is(err, api.ErrUnavailable):
			return ended(ctx, err)
		case err != nil && !away && ctx.Err() == nil:
			fmt.Fprintln(c.err, "nsqueued does not answer, waiting for it")
		case err == nil:
			if err := c.printEvents(news(seen, list)); err != nil {
				return err
			}
			seen = list
		}
		away = err != nil
	}
}

// ended is a call's error, or none where the call was given up.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// news returns what of the later list is not in the earlier one. The daemon
// forgets old events, and one that has started anew knows nothing of them.
func news(earlier, later []api.Event) []api.Event {
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
	e.Time = time.Unix(0, e.Time.UnixNano())
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
	_, err := fmt.Fprintf(c.out, "%s  %-10s  %s/%s  %s  %s\n", eventTime(e), e.Kind,
		shortID(e.ContainerID), e.Ifname, e.Pod, e.Message)
	return err
}
