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
		Short: "Stop inspecting containers",
		Long: `Stop inspecting containers, or single interfaces of them. The beginning of a
container ID is enough if only one container matches.

The packets of a detached pod pass uninspected from then on, whatever its
failure policy. A pod that was attached by CNI is attached again only when it is
recreated.`,
		Example: `  nsqueuectl detach 0fd31c8e5a2b
  nsqueuectl detach blue/eth0
  nsqueuectl detach --all`,
		Args: func(_ *cobra.Command, args []string) error {
			if f.all == (len(args) > 0) {
				return errors.New("detach: give either container IDs or --all")
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
	cmd.Flags().BoolVar(&f.all, "all", false, "detach all attachments, however they were attached")
	cmd.Flags().BoolVar(&f.ignoreNotFound, "ignore-not-found", false,
		"succeed even if there is nothing to detach")
	return cmd
}

func detach(ctx context.Context, c *command, f detachFlags, names []string) error {
	if f.all {
		n, err := call(ctx, c, c.client.DetachAll)
		if err != nil {
			return fmt.Errorf("detach all: %w", err)
		}
		return c.reportDetached(n, text.Plural(n, "attachment")+" detached")
	}
	l, err := call(ctx, c, c.client.List)
	if err != nil {
		return err
	}
	keys, err := resolveAll(l.Attachments, names, f.ignoreNotFound)
	if err != nil {
		return err
	}
	var lines []string
	for _, key := range keys {
		err := c.do(ctx, func(ctx context.Context) error { return c.client.Detach(ctx, key) })
		if err != nil {
			return fmt.Errorf("detach %s: %w", key, err)
		}
		lines = append(lines, key.String()+" detached")
	}
	return c.reportDetached(len(keys), lines...)
}

func (c *command) reportDetached(n int, lines ...string) error {
	if c.printer().Structured() {
		return c.printer().Object(api.DetachResult{Detached: n})
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
			return nil, fmt.Errorf("no attachment matches %q: see nsqueuectl list", name)
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
		return nil, fmt.Errorf("container ID %q matches %d containers: give more of the ID",
			id, len(containers))
	}
	return begins, nil
}
