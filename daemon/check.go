// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/node"
)

const checkHelp = `Say whether nsqueued could serve here with these settings, and what to do about
each thing that is wrong. Give it the flags that nsqueued is to have. It checks
the configuration, the rules, the state of the nsqueued before it, capabilities,
what a container hides, and what the kernel has for queues and hooks.

check changes nothing and can run beside nsqueued: it makes no file and no socket
that others see, loads no module, and tries the kernel out in a network namespace
of its own, which ends with the check. Each line begins with ok, warning, wrong,
or unknown if the check could not be made.

A daemon of your own on daemon/node makes the same check, instead of running, if
the environment has ` + node.EnvCheck + `=text or ` + node.EnvCheck + `=json.

Exit status:
  0  nothing is wrong
  1  something is wrong
  2  wrong usage`

// usageError is an error in the command line of check.
type usageError struct{ error }

// ExitCode is what the process exits with.
func (usageError) ExitCode() int { return 2 }

func (e usageError) Unwrap() error { return e.error }

func checkCommand() *cobra.Command {
	set, output := newSettings(), node.ReportText
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say whether nsqueued could serve here, and change nothing",
		Long:  checkHelp,
		Example: "  nsqueued check --config /etc/nsqueue/nsqueued.yaml\n" +
			"  nsqueued check --rules /etc/nsqueue/rules.d -o json",
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.NoArgs(cmd, args); err != nil {
				return usageError{err}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != node.ReportText && output != node.ReportJSON {
				return usageError{fmt.Errorf("output %q: want text or json", output)}
			}
			r, err := check(cmd.Context(), set, cmd)
			if err != nil {
				return err
			}
			return errors.Join(r.Write(cmd.OutOrStdout(), output), r.Err())
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	set.addTo(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", output, "text or json")
	return cmd
}

// checkSilence is how long a check may take before it says that it goes on. Many rules take
// a while.
const checkSilence = 2 * time.Second

// check makes the check, and ends with ctx, whatever is left of it then.
func check(ctx context.Context, set *settings, cmd *cobra.Command) (*node.Report, error) {
	done := make(chan *node.Report, 1)
	go func() { done <- report(set, cmd) }()
	tick := time.NewTicker(checkSilence)
	defer tick.Stop()
	for {
		select {
		case r := <-done:
			return r, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-tick.C:
			fmt.Fprintln(os.Stderr, "still checking")
		}
	}
}

func report(set *settings, cmd *cobra.Command) *node.Report {
	c, err := set.config(cmd)
	if err != nil {
		r := node.NewReport()
		r.RefuseConfiguration(set.file, err)
		return r
	}
	return node.Check(&c, inspect.AcceptAll{})
}
