// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/doctor"
	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/internal/boottime"
)

func newDoctor(run runner) *cobra.Command {
	var f directoryFlags
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find out what is wrong with nsqueue on this node, and what to do",
		Long: `Find out what is wrong with nsqueue on this node, and what to do about it:
whether nsqueued answers, its version is that of the plugin and of this command,
the CNI configuration has nsqueue as its last plugin, sockets and state are
root's alone, calls wait in the spool, the kernel has what it takes, the hook
and the supervisor are good enough for the failure policy, a control group
limits its processor time, there are descriptors for more pods, the receive
buffers are as large as they are to be, the packets of each pod really come to
it, and others in the pods' netns go by mark bits that the inspector may set.

It changes nothing. Each line begins with ok, warning, wrong, or unknown where
the check could not be made. The exit status is 1 if something is wrong; what is
unknown alone does not make it so.`,
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
	found := findRuntimes(ctx, p)
	report := doctor.Examine(ctx, doctor.Options{
		Socket: c.socket, BinDir: f.binDir, ConfDir: f.confDir, Version: c.version,
		Now:      boottime.Now,
		Runtimes: found.found, DropIns: found.dropIns,
	})
	if err := c.writeReport(&report); err != nil {
		return err
	}
	switch n := report.Count(doctor.Wrong); n {
	case 0:
		return nil
	case 1:
		return errors.New("1 thing is wrong")
	default:
		return fmt.Errorf("%d things are wrong", n)
	}
}

func (c *command) writeReport(r *doctor.Report) error {
	if c.structured() {
		return c.writeObject(r)
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
