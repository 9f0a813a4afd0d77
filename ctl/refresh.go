// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/printable"
)

const (
	// refreshInterval is how often --watch shows what there is.
	refreshInterval = time.Second
	// reconnectInterval is how often a daemon that does not answer is called.
	reconnectInterval = 500 * time.Millisecond
)

// noAnswer is printed once when a daemon that has answered stops doing so.
const noAnswer = "nsqueued does not answer; waiting for it"

// addWatch gives a command the flag --watch.
func addWatch(cmd *cobra.Command, watching *bool) {
	cmd.Flags().BoolVarP(watching, "watch", "w", false, "refresh every second until Ctrl-C")
}

// lookOrWatch looks once, or again and again.
func (c *command) lookOrWatch(
	ctx context.Context, watching bool, look func(context.Context) error,
) error {
	if watching {
		return c.refresh(ctx, refreshInterval, look)
	}
	return look(ctx)
}

// refresh looks now and after each interval, until ctx ends or a look fails. Once
// one has succeeded, it waits for a daemon that is not there, such as one that
// restarts.
func (c *command) refresh(
	ctx context.Context, interval time.Duration, look func(context.Context) error,
) error {
	if err := look(ctx); err != nil {
		return ignoreCanceled(ctx, err)
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for told := false; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := look(ctx)
		switch {
		case err != nil && !errors.Is(err, api.ErrUnavailable):
			return ignoreCanceled(ctx, err)
		case err != nil && !told && ctx.Err() == nil:
			fmt.Fprintln(c.err, noAnswer)
		}
		told = err != nil
	}
}

// ignoreCanceled is a call's error, or none where the call was given up.
func ignoreCanceled(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// pause waits for an interval, and reports false if ctx ends before.
func pause(ctx context.Context, interval time.Duration) bool {
	t := time.NewTimer(interval)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// show prints once or again: before each time it clears a terminal, after each time
// a pipe gets an empty line.
func (c *command) show(again bool, write func() error) error {
	if !again {
		return write()
	}
	if c.width() > 0 {
		return c.showScreen(write)
	}
	if err := write(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(c.out)
	return err
}

// showScreen prints as much as fits on the terminal.
func (c *command) showScreen(write func() error) error {
	out, screen := c.out, &strings.Builder{}
	c.out = screen
	err := write()
	c.out = out
	if err != nil {
		return err
	}
	shown := printable.Text(text.Top(screen.String(), c.height()))
	_, err = fmt.Fprint(c.raw, text.ClearScreen, shown)
	return err
}

// writeOne prints an object for programs, one of many where it is shown again.
func (c *command) writeOne(again bool, v any) error {
	if again {
		return c.printer().Item(v)
	}
	return c.printer().Object(v)
}
