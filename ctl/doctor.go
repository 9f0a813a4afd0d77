// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/doctor"
	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/internal/boottime"
)

func newDoctor(run runner) *cobra.Command {
	var f directoryFlags
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check nsqueue on this node, and say what to do",
		Long: `Check nsqueue on this node, and say what to do about each problem. doctor checks
that

  - nsqueued answers, and has the version of the plugin and of nsqueuectl
  - the CNI configuration has nsqueue as its last plugin
  - only root can change the sockets and the state
  - no calls of the plugin wait in the spool
  - the kernel has what nsqueued needs
  - hook and supervisor are good enough for the failure policy
  - no container hides from nsqueued what it has to see
  - no control group limits the processor time of nsqueued
  - there are descriptors for more pods, and receive buffers of the set size
  - the packets of each pod reach nsqueued
  - nothing else in the pods' netns uses mark bits that the inspector may set

doctor changes nothing. Each line begins with ok, warning, wrong, or unknown if
the check could not be made. The exit status is 1 if something is wrong. What is
unknown does not change the exit status.`,
		Example: `  nsqueuectl doctor
  nsqueuectl doctor -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), func(ctx context.Context, c *command) error {
				return examine(ctx, c, f)
			})
		},
	}
	f.addDirectories(cmd)
	return cmd
}

func examine(ctx context.Context, c *command, f directoryFlags) error {
	p, err := f.applyProfile(c.root)
	if err != nil {
		return err
	}
	var current atomic.Value
	current.Store("runtimes")
	stop := c.showProgress(func() string {
		return fmt.Sprintf("still checking: %s", current.Load())
	})
	found := findRuntimes(ctx, p, runningOn(c.root))
	report := doctor.Examine(ctx, doctor.Options{
		Socket: c.socket, BinDir: f.binDir, ConfDir: f.confDir, Version: c.version,
		Now: boottime.Now, InPod: c.getenv("KUBERNETES_SERVICE_HOST") != "",
		Runtimes: found.found, DropIns: found.dropIns,
		Checking: func(check string) { current.Store(check) },
	})
	stop()
	if err := c.writeReport(&report); err != nil {
		return err
	}
	if n := report.Count(doctor.Wrong); n > 0 {
		return fmt.Errorf("doctor found %s", text.Plural(n, "problem"))
	}
	return nil
}

func (c *command) writeReport(r *doctor.Report) error {
	if c.printer().Structured() {
		return c.printer().Object(r)
	}
	for i := range r.Findings {
		if _, err := fmt.Fprint(c.out, findingText(&r.Findings[i])); err != nil {
			return err
		}
	}
	var counts []string
	for _, result := range []doctor.Result{
		doctor.Wrong, doctor.Warning, doctor.Unknown, doctor.OK,
	} {
		if n := r.Count(result); n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, result))
		}
	}
	_, err := fmt.Fprintln(c.err, strings.Join(counts, ", "))
	return err
}

// findingText is a few lines that fit a terminal of 80 columns.
func findingText(f *doctor.Finding) string {
	const indent = "                      "
	what := f.What
	if f.Where != "" {
		what = f.Where + ": " + f.What
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%-8s %-12s %s\n", f.Result, f.Check, text.Wrap(what, indent))
	if f.Remedy != "" {
		fmt.Fprintf(&b, "%s%s\n", indent, text.Wrap("-> "+f.Remedy, indent+"   "))
	}
	return b.String()
}
