// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"
)

// keepEvery is how often uninstall --watch looks whether nsqueue is back.
const keepEvery = 2 * time.Second

// keepUninstalled takes nsqueue away whenever it comes back, until ctx ends: as long as
// what runs it is there, it may start once more.
func (c *command) keepUninstalled(ctx context.Context, f *uninstallFlags) error {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	said := ""
	for {
		text := ""
		if err := c.uninstallAgain(ctx, f); err != nil && ctx.Err() == nil {
			text = err.Error()
		}
		if text != "" && text != said {
			fmt.Fprintf(c.err, "trying again: %s\n", text)
		}
		said = text
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// uninstallAgain has a nsqueued retire that does not, and removes what is installed. It
// prints nothing where there is nothing to do.
func (c *command) uninstallAgain(ctx context.Context, f *uninstallFlags) error {
	if f.otherInstance(ctx, c) != "" {
		return nil
	}
	asked, cancel := context.WithTimeout(ctx, adoptTimeout)
	defer cancel()
	if s, err := c.client.Status(asked); err == nil && !s.Retired {
		n, err := c.client.Retire(asked)
		if err != nil {
			return fmt.Errorf("retire: %w", err)
		}
		if err := c.printLine("nsqueued of version %s is back: %d attachments detached",
			s.Version, n); err != nil {
			return err
		}
	}
	there, err := f.installed()
	if err != nil || !there {
		return err
	}
	return uninstall(ctx, c, f)
}
