// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/daemon/api"
)

func newLogLevel(run runner) *cobra.Command {
	return &cobra.Command{
		Use:   "log-level LEVEL",
		Short: "Change the log level of nsqueued until it restarts",
		Long: `Change the log level of nsqueued to debug, info, warn or error. When nsqueued
restarts, it uses the level of its configuration again.`,
		Example:   "  nsqueuectl log-level debug",
		Args:      cobra.ExactArgs(1),
		ValidArgs: []string{"debug", "info", "warn", "error"},
		RunE: func(cmd *cobra.Command, args []string) error {
			return run(cmd.Context(), func(ctx context.Context, c *command) error {
				return setLogLevel(ctx, c, api.LogLevel(args[0]))
			})
		},
	}
}

func setLogLevel(ctx context.Context, c *command, level api.LogLevel) error {
	if err := level.Validate(); err != nil {
		return usageErrorf("%s", err)
	}
	level, err := call(ctx, c, func(ctx context.Context) (api.LogLevel, error) {
		return c.client.SetLogLevel(ctx, level)
	})
	if err != nil {
		return err
	}
	if c.printer().Structured() {
		return c.printer().Object(map[string]api.LogLevel{"level": level})
	}
	_, err = fmt.Fprintf(c.out, "log level %s\n", level)
	return err
}
