// SPDX-License-Identifier: Apache-2.0

// Nsqueued is the node daemon: it inspects the packets of the pods that the
// CNI plugin registers with it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/supervise"
	"github.com/nsqueue/nsqueue/daemon/node"
	"github.com/nsqueue/nsqueue/internal/printable"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "nsqueued:", printable.Text(err.Error()))
		code := 1
		if exit, ok := errors.AsType[interface {
			error
			ExitCode() int
		}](err); ok {
			code = exit.ExitCode()
		}
		os.Exit(code)
	}
}

func run() error {
	if err := supervise.Reexec(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return command().ExecuteContext(ctx)
}

func command() *cobra.Command {
	set := newSettings()
	cmd := &cobra.Command{
		Use:   "nsqueued",
		Short: "Inspect the packets of every pod on this node",
		Long: "nsqueued reads the NFQUEUE of every pod netns that the nsqueue CNI plugin, or\n" +
			"nsqueuectl attach, registers with it. Flags take precedence over --config.",
		Args:          cobra.NoArgs,
		Version:       api.Version(),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := set.config(cmd)
			if err == nil {
				err = c.Validate()
			}
			if err != nil {
				return err
			}
			if !c.Rules.On() {
				defer answerHangups(&c)()
			}
			return node.Run(cmd.Context(), c, inspect.AcceptAll{})
		},
	}
	cmd.AddCommand(superviseCommand(), checkCommand(), retireCommand())
	cmd.CompletionOptions.DisableDefaultCmd = true
	cmd.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	set.addTo(cmd)
	return cmd
}

// answerHangups has SIGHUP end nothing where there are no rules that it could have read
// again, until the function is called that it returns.
func answerHangups(c *node.Config) func() {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	log, _ := node.NewLog(os.Stderr, c.LogFormat) // of a valid configuration
	go func() {
		for range hangups {
			log.Info("nothing to reload: there are no rules")
		}
	}()
	return func() {
		signal.Stop(hangups)
		close(hangups)
	}
}
