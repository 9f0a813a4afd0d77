// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/daemon/api"
)

// adoptTimeout is longer than that of other calls: each pod takes milliseconds.
const adoptTimeout = 5 * time.Minute

func newAdopt(run runner) *cobra.Command {
	var req api.AdoptRequest
	cmd := &cobra.Command{
		Use:   "adopt",
		Short: "Inspect pods that started before nsqueue",
		Long: `Attach pods that no CNI call has announced to nsqueued: they started before the
CNI configuration had the nsqueue entry, or while nsqueued was not running.

nsqueued finds them in the container runtime's cache of CNI results. It attaches
a pod only if the interface in the pod's netns has exactly the addresses of that
result. It skips all others and gives the reason. Adopted pods get the settings
of the nsqueue entry in their CNI configuration; where the entry is missing or
has no failure policy, nsqueued's default applies. A netns that no runtime knows
is listed as unknown: use nsqueuectl attach for it.

The exit status is 1 if nsqueued could not attach a pod that it should inspect.`,
		Example: `  nsqueuectl adopt --dry-run
  nsqueuectl adopt`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), func(ctx context.Context, c *command) error {
				return adopt(ctx, c, req)
			})
		},
	}
	cmd.Flags().BoolVar(&req.DryRun, "dry-run", false,
		"show what would be attached, attach nothing")
	return cmd
}

func adopt(ctx context.Context, c *command, req api.AdoptRequest) error {
	ctx, cancel := context.WithTimeout(ctx, adoptTimeout)
	defer cancel()
	began := c.now()
	stop := c.showProgress(func() string { return c.adoptedSince(ctx, began) })
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

// adoptedSince says how many pods the daemon has adopted since a time.
func (c *command) adoptedSince(ctx context.Context, began time.Time) string {
	l, err := c.client.List(ctx)
	if err != nil {
		return "" // the call itself will say what is wrong
	}
	n := 0
	for _, a := range l.Attachments {
		if a.Origin == api.OriginAdopted && !a.Created.Before(began) {
			n++
		}
	}
	return fmt.Sprintf("still adopting: %s so far", text.Plural(n, "pod"))
}

func (c *command) writeAdopted(found api.AdoptResults) error {
	if c.printer().Structured() {
		return c.printer().Object(found)
	}
	for _, what := range found.Missing {
		fmt.Fprintln(c.err, text.Wrap("Not all pods can be found: "+what, "  "))
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
	return errors.Join(c.printer().Table(&t), c.summarize(&found))
}

// summarize prints how many pods had each outcome.
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
