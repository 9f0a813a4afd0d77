// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/daemon/api"
)

// adoptTimeout is longer than other calls': attaching takes milliseconds a pod.
const adoptTimeout = 5 * time.Minute

func newAdopt(run runner) *cobra.Command {
	var req api.AdoptRequest
	cmd := &cobra.Command{
		Use:   "adopt",
		Short: "Have pods inspected that are older than nsqueue",
		Long: `Find pods that no CNI call has brought to nsqueued, because they were made
before the chain had its entry, or while it did not run, and have them
inspected.

A pod is found by what its runtime has kept of it (the CNI result cache), and
attached if the interface in its netns has the very addresses that the runtime
knows. What is not certain is skipped, with the reason. A netns that no runtime
knows is unknown; nsqueuectl attach has it inspected all the same.

The exit status is 1 if a pod could not be attached that should have been.`,
		Example: `  nsqueuectl adopt --dry-run
  nsqueuectl adopt`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), func(ctx context.Context, c *command) error {
				return adopt(ctx, c, req)
			})
		},
	}
	cmd.Flags().BoolVar(&req.DryRun, "dry-run", false, "attach nothing, show what would be")
	return cmd
}

func adopt(ctx context.Context, c *command, req api.AdoptRequest) error {
	ctx, cancel := context.WithTimeout(ctx, adoptTimeout)
	defer cancel()
	stop := c.showProgress(ctx)
	found, err := c.client.Adopt(ctx, req)
	stop()
	if err != nil {
		return fmt.Errorf("adopt: %w", err)
	}
	if err := c.writeAdopted(found); err != nil {
		return err
	}
	if n := found.Count(api.AdoptFailed); n > 0 {
		return fmt.Errorf("%s could not be adopted", text.Plural(n, "pod"))
	}
	return nil
}

// showProgress says how far the daemon is whenever the command would be silent
// for long. Nothing is written after the returned function.
func (c *command) showProgress(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	began := c.now()
	var shown sync.WaitGroup
	shown.Go(func() {
		tick := time.NewTicker(c.progressAfter)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			l, err := c.client.List(ctx)
			if err != nil {
				continue // the call itself will say what is wrong
			}
			n := 0
			for _, a := range l.Attachments {
				if a.Origin == api.OriginAdopted && !a.Created.Before(began) {
					n++
				}
			}
			fmt.Fprintf(c.err, "still at it: %s adopted so far\n", text.Plural(n, "pod"))
		}
	})
	return func() {
		cancel()
		shown.Wait()
	}
}

func (c *command) writeAdopted(found api.AdoptResults) error {
	if c.structured() {
		return c.writeObject(found)
	}
	for _, what := range found.Missing {
		fmt.Fprintln(c.err, text.Wrap("nsqueued cannot see all: "+what, "  "))
	}
	if len(found.Results) == 0 {
		_, err := fmt.Fprintln(c.err, "No pods found.")
		return err
	}
	t := text.Table{
		Head: []string{
			"CONTAINER ID", "IFNAME", "POD", "NETWORK", "NETNS", "OUTCOME", "REASON",
		},
		Elastic: "POD", Spare: []string{"NETNS", "NETWORK", "IFNAME"}, Prose: true,
	}
	for _, r := range found.Results {
		t.Add(cmp.Or(c.id(r.ContainerID), "-"), cmp.Or(r.Ifname, "-"), r.Pod.String(),
			cmp.Or(r.Network, "-"), cmp.Or(r.Netns.Path, "-"), string(r.Outcome),
			cmp.Or(r.Reason, "-"))
	}
	return errors.Join(c.writeTable(&t), c.summarize(&found))
}

// summarize prints how often there was each outcome.
func (c *command) summarize(found *api.AdoptResults) error {
	var counts []string
	for _, o := range []api.AdoptOutcome{
		api.Adopted, api.WouldAdopt, api.AlreadyAttached, api.AdoptSkipped, api.AdoptFailed,
		api.UnknownNetns,
	} {
		if n := found.Count(o); n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, o))
		}
	}
	_, err := fmt.Fprintln(c.err, strings.Join(counts, ", "))
	return err
}
