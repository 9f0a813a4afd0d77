// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/daemon/api"
)

// detachFlags are the command's own flags.
type detachFlags struct {
	all, ignoreNotFound bool
}

func newDetach(run runner) *cobra.Command {
	var f detachFlags
	cmd := &cobra.Command{
		Use:   "detach CONTAINER-ID[/IFNAME]... | --all",
		Short: "End the inspection of a netns",
		Long: `End the inspection of containers, or of single interfaces of them. The beginning
of a container ID is enough where it names one container.

The packets of what is detached pass unseen from then on, whatever its failure
policy. A pod that came by CNI is attached again only when it is made anew.`,
		Example: `  nsqueuectl detach 0fd31c8e5a2b
  nsqueuectl detach blue/eth0
  nsqueuectl detach --all`,
		Args: func(_ *cobra.Command, args []string) error {
			if f.all == (len(args) > 0) {
				return errors.New("detach: name containers, or give --all")
			}
			return nil
		},
		ValidArgsFunction: completeNames(run, keyNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return run(cmd.Context(), func(ctx context.Context, c *command) error {
				return detach(ctx, c, f, args)
			})
		},
	}
	cmd.Flags().BoolVar(&f.all, "all", false, "detach everything, by whatever way it was attached")
	cmd.Flags().BoolVar(&f.ignoreNotFound, "ignore-not-found", false,
		"succeed where there is nothing to detach")
	return cmd
}

func detach(ctx context.Context, c *command, f detachFlags, names []string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if f.all {
		n, err := c.client.DetachAll(ctx)
		if err != nil {
			return fmt.Errorf("detach all: %w", err)
		}
		return c.reportDetached(n, text.Plural(n, "attachment")+" detached")
	}
	l, err := c.client.List(ctx)
	if err != nil {
		return err
	}
	keys, err := resolveAll(l.Attachments, names, f.ignoreNotFound)
	if err != nil {
		return err
	}
	var lines []string
	for _, key := range keys {
		if err := c.client.Detach(ctx, key); err != nil {
			return fmt.Errorf("detach %s: %w", key, err)
		}
		lines = append(lines, key.String()+" detached")
	}
	return c.reportDetached(len(keys), lines...)
}

func (c *command) reportDetached(n int, lines ...string) error {
	if c.structured() {
		return c.writeObject(api.DetachResult{Detached: n})
	}
	for _, line := range lines {
		if err := c.printLine("%s", line); err != nil {
			return err
		}
	}
	return nil
}

// resolveAll returns the keys that the names mean, before any is detached.
func resolveAll(
	attachments []api.Attachment, names []string, ignoreNotFound bool,
) ([]api.Key, error) {
	var keys []api.Key
	for _, name := range names {
		found, err := resolve(attachments, name)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 && !ignoreNotFound {
			return nil, fmt.Errorf("no attachment %q: nsqueuectl list shows those there are", name)
		}
		keys = append(keys, found...)
	}
	return keys, nil
}

// resolve returns the attachments of the one container that the name means: by
// its full ID, else by the beginning of its ID.
func resolve(attachments []api.Attachment, name string) ([]api.Key, error) {
	id, ifname, withIfname := strings.Cut(name, "/")
	if id == "" || (withIfname && ifname == "") {
		return nil, usageErrorf("attachment %q: want CONTAINER-ID or CONTAINER-ID/IFNAME", name)
	}
	var exact, begins []api.Key
	containers := map[string]bool{}
	for _, a := range attachments {
		if withIfname && a.Ifname != ifname {
			continue
		}
		switch {
		case a.ContainerID == id:
			exact = append(exact, a.Key)
		case strings.HasPrefix(a.ContainerID, id):
			begins = append(begins, a.Key)
			containers[a.ContainerID] = true
		}
	}
	if exact != nil {
		return exact, nil
	}
	if len(containers) > 1 {
		return nil, fmt.Errorf("container ID %q is the beginning of %d: give more of it",
			id, len(containers))
	}
	return begins, nil
}
