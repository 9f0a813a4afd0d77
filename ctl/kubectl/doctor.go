// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/answers"
	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/fleet"
	"github.com/nsqueue/nsqueue/daemon/api"
)

func newDoctor(run runner) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check nsqueue on all nodes, and say what to do",
		Long: `Check nsqueue on all nodes, and say what to do about each problem. It shows what
is not ok; -o wide and -o json show all checks. nsqueuectl doctor --help says
which there are. doctor changes nothing. The exit status is 1 if something is
wrong on a node, or a node has not answered.`,
		Example: `  kubectl nsqueue doctor
  kubectl nsqueue doctor --node node1 -o wide`,
		Args: cobra.NoArgs,
	}
	remote, output := newRemoteFlags(cmd), addOutput(cmd)
	remote.text("bin-dir", "`DIRECTORY` of CNI plugins, where it is not the usual one")
	remote.text("conf-dir", "`DIRECTORY` of CNI configurations, where it is not\nthe usual one")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return run(cmd.Context(), *output, func(ctx context.Context, c *command) error {
			return c.doctor(ctx, remote.args("doctor", "-o", "json"))
		})
	}
	return cmd
}

// report is what doctor prints on a node.
type report struct {
	Findings []api.Finding `json:"findings"`
}

func (c *command) doctor(ctx context.Context, args []string) error {
	list, bad, err := c.ask(ctx, args...)
	if err != nil {
		return err
	}
	found := map[api.FindingResult]int{}
	wrong := 0 // nodes
	var tables []*text.Table
	for _, a := range list {
		r, err := answers.Read[report](a.Out)
		if err != nil {
			bad.add(a.Node, err)
			continue
		}
		before := found[api.FindingWrong]
		t := c.findings(r.Findings, found)
		t.Lead("NODE", a.Node)
		tables = append(tables, t)
		if found[api.FindingWrong] > before {
			wrong++
		}
	}
	if err := c.writeFindings(list, bad, tables, found); err != nil {
		return err
	}
	if wrong > 0 {
		return errors.Join(bad.err(), failed(fmt.Errorf("doctor found %s on %s",
			text.Plural(found[api.FindingWrong], "problem"), text.Plural(wrong, "node"))))
	}
	return bad.err()
}

// findings is the table of what is not ok, or of everything. It counts all.
func (c *command) findings(list []api.Finding, found map[api.FindingResult]int) *text.Table {
	t := &text.Table{
		Head: []string{"RESULT", "CHECK", "FINDING"}, Elastic: "CHECK", Prose: true,
	}
	for _, f := range list {
		found[f.Result]++
		if f.Result == api.FindingOK && c.output != "wide" {
			continue
		}
		what := f.What
		if f.Where != "" {
			what = f.Where + ": " + what
		}
		if f.Remedy != "" {
			what += " -> " + f.Remedy
		}
		t.Add(string(f.Result), f.Check, what)
	}
	return t
}

func (c *command) writeFindings(
	list []fleet.Answer, bad *unanswered, tables []*text.Table, found map[api.FindingResult]int,
) error {
	if c.printer().Structured() {
		return c.writeStructured(list, bad, "findings")
	}
	if all := text.Join(tables...); all.Rows() > 0 {
		if err := c.printer().Table(all); err != nil {
			return err
		}
	}
	var counts []string
	for _, result := range []api.FindingResult{
		api.FindingWrong, api.FindingWarning, api.FindingUnknown, api.FindingOK,
	} {
		if n := found[result]; n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, result))
		}
	}
	if len(counts) > 0 {
		c.tell("%s on %s", strings.Join(counts, ", "), text.Plural(len(tables), "node"))
	}
	return nil
}
