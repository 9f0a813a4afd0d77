// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/ctl/internal/view"
	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/answers"
	"github.com/nsqueue/nsqueue/daemon/api"
)

func newStatus(run runner) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the state of nsqueued on all nodes",
		Long: `Show the state of nsqueued on all nodes, a line for each, and below what is wrong
with attachments. -o json has everything that nsqueuectl status tells.

  RULES        how many sets are in force; - where nsqueued has none
  UNDELIVERED  CNI calls in the spool that nsqueued must still carry out
  PROBLEMS     attachments whose packets are not inspected as intended`,
		Example: `  kubectl nsqueue status
  kubectl nsqueue status -o wide --watch`,
		Args: cobra.NoArgs,
	}
	remote, output, watching := newRemoteFlags(cmd), addOutput(cmd), addWatch(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return run(cmd.Context(), *output, func(ctx context.Context, c *command) error {
			return c.look(ctx, *watching, snapshot{
				args: remote.args("status"), table: c.states, more: problems,
			})
		})
	}
	return cmd
}

// states is the state of a node as a table with one row.
func (c *command) states(out []byte) (*text.Table, error) {
	s, err := answers.Read[api.Status](out)
	t := &text.Table{
		Head: []string{
			"VERSION", "AGE", "POLICY", "HOOK", "RULES", "ATTACHMENTS", "PACKETS", "DROPPED",
			"REJECTED", "UNDELIVERED", "PROBLEMS", "SUPERVISOR", "ORPHANS", "RETIRED",
		},
		Elastic: "VERSION", Spare: []string{"UNDELIVERED", "RULES", "HOOK", "AGE", "REJECTED"},
		Extra: []string{"SUPERVISOR", "ORPHANS", "RETIRED"},
	}
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	t.Add(s.Version, age(c.now(), s.Started), string(s.FailurePolicy), s.Hook.Kind, ruleSets(&s),
		strconv.Itoa(s.Attachments), number(s.Counters.Packets), number(s.Counters.Dropped),
		number(s.Counters.Rejected), strconv.Itoa(s.Spooled), strconv.Itoa(len(s.Problems)),
		cmp.Or(string(s.Supervisor.Kind), "none"), number(s.Orphans),
		strconv.FormatBool(s.Retired))
	return t, err
}

// age is how old something is, by the clock of this machine.
func age(now, since time.Time) string { return text.Age(now.Sub(since)) }

func ruleSets(s *api.Status) string {
	switch {
	case s.Rules == nil:
		return "-"
	case s.Rules.Problem != "":
		return strconv.Itoa(s.Rules.Sets) + " (wrong files)"
	}
	return strconv.Itoa(s.Rules.Sets)
}

// problems are lines about what is wrong on a node.
func problems(node string, out []byte) ([]string, error) {
	s, err := answers.Read[api.Status](out)
	var lines []string
	for i := range s.Problems {
		lines = append(lines, node+": "+view.Problem(&s.Problems[i]))
	}
	if s.Rules != nil && s.Rules.Problem != "" {
		lines = append(lines, node+": rules: "+s.Rules.Problem)
	}
	return lines, err
}
