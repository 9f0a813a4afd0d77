// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// upgradePoll is how often the command looks whether the new daemon answers.
const upgradePoll = 50 * time.Millisecond

func newUpgrade(run runner) *cobra.Command {
	timeout := time.Minute
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Replace nsqueued by the version that is installed by now",
		Long: `Replace nsqueued, which runs, by the version that is installed in its place by
now, without losing a packet. This is for nsqueued under "nsqueued supervise",
which keeps the queues open meanwhile and is replaced as well. Under systemd,
"systemctl restart nsqueued" does it.

The command returns when the new nsqueued answers. A version that does not even
tell its version, or does not understand what it would be handed, is refused,
and the old one goes on; one that does not serve is restarted until another
one is installed and the command is given again.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), func(ctx context.Context, c *command) error {
				if timeout <= 0 {
					return usageErrorf("timeout %v: want more than 0s", timeout)
				}
				return upgrade(ctx, c, timeout)
			})
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "how long to wait for the new nsqueued")
	return cmd
}

// daemonIdentity tells one nsqueued from another.
type daemonIdentity struct {
	Version string `json:"version"`
	PID     int    `json:"pid"`
}

// upgraded is the command's JSON output.
type upgraded struct {
	From daemonIdentity `json:"from"`
	To   daemonIdentity `json:"to"`
}

func upgrade(ctx context.Context, c *command, timeout time.Duration) error {
	callCtx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	before, err := c.client.Status(callCtx)
	if err != nil {
		return err
	}
	if err := c.client.Upgrade(callCtx); err != nil {
		return err
	}
	after, err := c.awaitOther(ctx, before, timeout)
	if err != nil {
		return err
	}
	u := upgraded{
		From: daemonIdentity{before.Version, before.PID},
		To:   daemonIdentity{after.Version, after.PID},
	}
	if c.structured() {
		return c.writeObject(u)
	}
	_, err = fmt.Fprintf(c.out, "nsqueued upgraded: %s -> %s (process %d -> %d)\n",
		u.From.Version, u.To.Version, u.From.PID, u.To.PID)
	return err
}

// awaitOther returns the status of the first daemon that is not the one before.
// In between, nobody answers.
func (c *command) awaitOther(
	ctx context.Context, before api.Status, timeout time.Duration,
) (api.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(upgradePoll)
	defer tick.Stop()
	var last error // of a call that had time
	for {
		after, err := c.client.Status(ctx)
		if ctx.Err() == nil {
			last = err
		}
		switch {
		case err == nil && after.PID != before.PID:
			return after, nil
		case err != nil && !errors.Is(err, api.ErrUnavailable):
			return api.Status{}, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return api.Status{}, notUpgraded(before, timeout, last)
		}
	}
}

func notUpgraded(before api.Status, timeout time.Duration, err error) error {
	if err == nil {
		return fmt.Errorf("the old nsqueued, process %d, still serves after %v: its "+
			"supervisor's log says why the new version was refused", before.PID, timeout)
	}
	return fmt.Errorf("no nsqueued serves after %v: see its supervisor's log, and upgrade "+
		"again with another version in place: %w", timeout, err)
}
