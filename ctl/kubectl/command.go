// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/ctl/internal/view"
	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/fleet"
	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/pods"
	"github.com/nsqueue/nsqueue/internal/printable"
)

// command is one call of a command: what it was given and what it may use.
type command struct {
	*IOStreams
	cluster cluster
	fleet   *fleet.Fleet
	flags   *globalFlags
	output  string
}

// printer prints what the command has found.
func (c *command) printer() text.Printer {
	return text.Printer{Out: c.out, Width: c.width, Format: c.output}
}

// id is a container ID as the output shows it: whole in wide tables.
func (c *command) id(id string) string {
	if c.output == "wide" {
		return id
	}
	return view.ShortID(id)
}

// tell prints a line for the user, with line breaks in it escaped.
func (c *command) tell(format string, args ...any) {
	fmt.Fprintln(c.err, printable.Line(fmt.Sprintf(format, args...)))
}

// pods returns those that are to be asked. A node that was named and has none is among them,
// as one that cannot answer.
func (c *command) pods(ctx context.Context) ([]pods.Pod, error) {
	defer c.showProgress(func() string { return "waiting for the API server" })()
	found, err := c.fleet.Cluster.Find(ctx)
	if err != nil {
		return nil, unreachable(err)
	}
	if len(found) == 0 {
		return nil, unreachable(fmt.Errorf("there is no pod of nsqueue with the labels %s: "+
			"name its namespace with -n, or its labels with --selector", c.flags.selector))
	}
	if len(c.flags.nodes) == 0 {
		return found, nil
	}
	var chosen []pods.Pod
	names := slices.Sorted(slices.Values(c.flags.nodes))
	for _, node := range slices.Compact(names) {
		i := slices.IndexFunc(found, func(p pods.Pod) bool { return p.Node == node })
		if i >= 0 {
			chosen = append(chosen, found[i])
			continue
		}
		chosen = append(chosen, pods.Pod{Node: node, Problem: "it has no pod of nsqueue"})
	}
	return chosen, nil
}

// ask runs nsqueuectl on all nodes, and returns the answers of those that have answered.
// The others are in the second result.
func (c *command) ask(ctx context.Context, args ...string) ([]fleet.Answer, *unanswered, error) {
	list, err := c.pods(ctx)
	if err != nil {
		return nil, nil, err
	}
	return c.askPods(ctx, list, args...)
}

func (c *command) askPods(
	ctx context.Context, list []pods.Pod, args ...string,
) ([]fleet.Answer, *unanswered, error) {
	var waiting waitingFor
	stop := c.showProgress(waiting.String)
	answers := c.fleet.Ask(ctx, list, args, waiting.set)
	stop()
	if ctx.Err() != nil {
		return nil, nil, errors.New("interrupted")
	}
	if err := wrongUsage(answers); err != nil {
		return nil, nil, err
	}
	bad := &unanswered{of: len(list)}
	var good []fleet.Answer
	for _, a := range answers {
		switch {
		case a.Err != nil:
			bad.add(a.Node, a.Err)
		case a.Status != 0 && len(a.Out) == 0:
			bad.add(a.Node, refusal(&a))
		default:
			good = append(good, a)
		}
	}
	return good, bad, nil
}

// wrongUsage is what all nodes say that were asked wrongly, as they all are.
func wrongUsage(answers []fleet.Answer) error {
	for _, a := range answers {
		if a.Err == nil && a.Status != statusUsage {
			return nil
		}
	}
	for _, a := range answers {
		if a.Err == nil {
			first, _, _ := strings.Cut(a.Said, "\n")
			return usageErrorf("%s", first)
		}
	}
	return nil
}

// refusal is why nsqueuectl has failed on a node.
func refusal(a *fleet.Answer) error {
	if a.Said == "" {
		return fmt.Errorf("nsqueuectl ended with status %d", a.Status)
	}
	return errors.New(strings.Join(strings.Fields(a.Said), " "))
}

// unanswered are the nodes that have not answered.
type unanswered struct {
	of    int
	Nodes []unansweredNode
}

type unansweredNode struct {
	Node  string `json:"node"`
	Error string `json:"error"`
}

func (u *unanswered) add(node string, err error) {
	u.Nodes = append(u.Nodes, unansweredNode{node, err.Error()})
}

// err names the nodes, those of the same error together.
func (u *unanswered) err() error {
	if len(u.Nodes) == 0 {
		return nil
	}
	why := map[string][]string{}
	var order []string
	for _, n := range u.Nodes {
		if why[n.Error] == nil {
			order = append(order, n.Error)
		}
		why[n.Error] = append(why[n.Error], n.Node)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %s did not answer:", len(u.Nodes), text.Plural(u.of, "node"))
	for _, reason := range order {
		fmt.Fprintf(&b, "\n  %s: %s", printable.Line(strings.Join(why[reason], ", ")),
			printable.Line(reason))
	}
	return &statusError{statusFailed, errors.New(b.String())}
}

// writeMerged prints what nodes have said for programs, and which have not answered.
func (c *command) writeMerged(key string, items []json.RawMessage, bad *unanswered) error {
	all := map[string]any{key: append([]json.RawMessage{}, items...)}
	if len(bad.Nodes) > 0 {
		all["unanswered"] = bad.Nodes
	}
	return c.printer().Object(all)
}
