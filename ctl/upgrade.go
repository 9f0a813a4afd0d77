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
		Short: "Replace the running nsqueued by the installed version",
		Long: `Replace the running nsqueued by the version that is now installed in its place,
without losing a packet. This is for nsqueued under "nsqueued supervise", which
keeps the queues open meanwhile and is replaced as well. Under systemd, use
"systemctl restart nsqueued" instead.

The command returns when the new nsqueued answers. The supervisor refuses a
program that does not tell its version, or does not understand the descriptors
that it would be handed; the old nsqueued then continues. If the new nsqueued
starts but does not serve, the supervisor restarts it until you install another
version and run the command again.`,
		Example: `  make install && nsqueuectl upgrade`,
		Args:    cobra.NoArgs,
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
	before, err := call(ctx, c, c.client.Status)
	if err != nil {
		return err
	}
	if err := c.do(ctx, c.client.Upgrade); err != nil {
		return err
	}
	stop := c.showProgress(func() string { return "waiting for the new nsqueued to answer" })
	after, err := c.awaitOther(ctx, before, timeout)
	stop()
	if err != nil {
		return err
	}
	u := upgraded{
		From: daemonIdentity{before.Version, before.PID},
		To:   daemonIdentity{after.Version, after.PID},
	}
	if c.printer().Structured() {
		return c.printer().Object(u)
	}
	_, err = fmt.Fprintf(c.out, "nsqueued upgraded: %s -> %s (process %d -> %d)\n",
		u.From.Version, u.To.Version, u.From.PID, u.To.PID)
	return err
}

// awaitOther returns the status of the first daemon that is not the one before.
// In between, no daemon answers.
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
		return fmt.Errorf("the old nsqueued, process %d, still serves after %v: the "+
			"log of its supervisor says why it refused the new version", before.PID, timeout)
	}
	return fmt.Errorf("no nsqueued serves after %v: see the log of its supervisor, install "+
		"another version, then run nsqueuectl upgrade again: %w", timeout, err)
}
