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
		if exit, ok := errors.AsType[*supervise.ExitError](err); ok {
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
	config := ""
	flags := node.DefaultConfig()
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
			c, err := effective(cmd, config, &flags)
			if err != nil {
				return err
			}
			if c.Rules.Directory == "" {
				defer answerHangups(&c)()
			}
			return node.Run(cmd.Context(), c, inspect.AcceptAll{})
		},
	}
	cmd.AddCommand(superviseCommand())
	cmd.CompletionOptions.DisableDefaultCmd = true
	cmd.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	f := cmd.Flags()
	f.StringVar(&config, "config", "", "configuration `file` (YAML, kind "+node.ConfigKind+")")
	f.StringVar(&flags.Socket, "socket", flags.Socket, "`path` of the API's unix socket")
	f.StringVar(&flags.StateDir, "state-dir", flags.StateDir,
		"`directory` of what survives a restart, on a tmpfs")
	f.StringVar(&flags.Hook, "hook", flags.Hook, "what queues packets: auto, nft or kmod")
	f.StringVar(&flags.KmodPath, "kmod-path", "",
		"`file` of the module for --hook kmod (default: the installed one)")
	f.StringVar((*string)(&flags.FailurePolicy), "failure-policy", string(flags.FailurePolicy),
		"Ignore or Fail, for attach requests that name none")
	f.BoolVar(&flags.Adopt.Existing, "adopt-existing", flags.Adopt.Existing,
		"at the start, attach pods that are older than nsqueued")
	f.StringVar(&flags.Rules.Directory, "rules", "", "`directory` of the rules to inspect by")
	f.StringVar((*string)(&flags.LogLevel), "log-level", string(flags.LogLevel),
		"debug, info, warn or error; nsqueuectl log-level changes it later")
	f.StringVar(&flags.LogFormat, "log-format", flags.LogFormat, "text or json")
	f.StringVar(&flags.MetricsAddress, "metrics-address", "",
		"`host:port` in numbers where Prometheus scrapes /metrics (default: observe.sock alone)")
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

// effective returns the file's configuration, or the default, with the flags
// that were given over it.
func effective(cmd *cobra.Command, path string, flags *node.Config) (node.Config, error) {
	c := node.DefaultConfig()
	if path != "" {
		var err error
		if c, err = node.LoadConfig(path); err != nil {
			return node.Config{}, err
		}
	}
	for name, set := range map[string]func(){
		"socket":          func() { c.Socket = flags.Socket },
		"state-dir":       func() { c.StateDir = flags.StateDir },
		"hook":            func() { c.Hook = flags.Hook },
		"kmod-path":       func() { c.KmodPath = flags.KmodPath },
		"failure-policy":  func() { c.FailurePolicy = flags.FailurePolicy },
		"adopt-existing":  func() { c.Adopt.Existing = flags.Adopt.Existing },
		"rules":           func() { c.Rules.Directory = flags.Rules.Directory },
		"log-level":       func() { c.LogLevel = flags.LogLevel },
		"log-format":      func() { c.LogFormat = flags.LogFormat },
		"metrics-address": func() { c.MetricsAddress = flags.MetricsAddress },
	} {
		if cmd.Flags().Changed(name) {
			set()
		}
	}
	return c, c.Validate()
}
