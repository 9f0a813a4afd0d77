// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/ctl/internal/view"
	"github.com/nsqueue/nsqueue/daemon/api"
)

// recentEvents is how many events a description shows.
const recentEvents = 10

func newDescribe(run runner) *cobra.Command {
	return &cobra.Command{
		Use:   "describe CONTAINER-ID[/IFNAME] | NAMESPACE/POD",
		Short: "Show everything nsqueued knows of a pod or container",
		Long: `Show everything nsqueued knows of the attachments of one container or pod: pod,
netns and hook, the packets that wait in the queues now, those that the kernel
has dropped there, verdicts and errors, problems, the rules that concern it in
their order, the latest events, and what rules refused of late. The beginning of
a container ID is enough if only one container matches.

The kernel drops packets when a queue is full (under failure policy Fail), or
when the receive buffer of its reader is full.`,
		Example: `  nsqueuectl describe default/busybox1
  nsqueuectl describe 0fd31c8e5a2b/eth0`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: firstOnly(completeNames(run, anyNames)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return run(cmd.Context(), func(ctx context.Context, c *command) error {
				return describe(ctx, c, args[0])
			})
		},
	}
}

// descriptions are what is printed for programs.
type descriptions struct {
	Attachments []description `json:"attachments"`
}

// description is what is known of an attachment, and the rules that concern it.
type description struct {
	api.Description

	Rules []api.EffectiveRule `json:"rules,omitempty"`
}

func describe(ctx context.Context, c *command, name string) error {
	l, err := call(ctx, c, c.client.List)
	if err != nil {
		return err
	}
	keys, err := resolveAny(l.Attachments, name)
	if err != nil {
		return err
	}
	var all descriptions
	for _, key := range keys {
		d, err := c.describe(ctx, key)
		if err != nil {
			return fmt.Errorf("describe %s: %w", key, err)
		}
		all.Attachments = append(all.Attachments, d)
	}
	if c.printer().Structured() {
		return c.printer().Object(all)
	}
	for i := range all.Attachments {
		if i > 0 {
			fmt.Fprintln(c.out)
		}
		if err := c.writeDescription(&all.Attachments[i]); err != nil {
			return err
		}
	}
	return nil
}

func (c *command) describe(ctx context.Context, key api.Key) (description, error) {
	return call(ctx, c, func(ctx context.Context) (description, error) {
		d, err := c.client.Describe(ctx, key)
		if err != nil {
			return description{}, err
		}
		rules, err := c.client.RulesOf(ctx, key)
		if _, refused := errors.AsType[*api.Error](err); refused {
			err = nil // it has no rules, or is older than they are
		}
		return description{d, rules}, err
	})
}

// resolveAny returns the attachments of the pod that is meant, else of the
// container.
func resolveAny(attachments []api.Attachment, name string) ([]api.Key, error) {
	var keys []api.Key
	for i := range attachments {
		if a := &attachments[i]; a.Pod.Name != "" && a.Pod.String() == name {
			keys = append(keys, a.Key)
		}
	}
	if keys != nil {
		return keys, nil
	}
	return resolveAll(attachments, []string{name}, false)
}

func (c *command) writeDescription(d *description) error {
	var f text.Fields
	line := f.Add
	n := &d.Counters
	line("Container ID", "%s", d.ContainerID)
	line("Interface", "%s", d.Ifname)
	line("Pod", "%s", d.Pod)
	if d.Pod.UID != "" {
		line("Pod UID", "%s", d.Pod.UID)
	}
	line("Network", "%s", cmp.Or(d.Network, "-"))
	line("Origin", "%s", d.Origin)
	line("State", "%s", d.State)
	line("Attached", "%s (%s ago)", d.Created.UTC().Format(time.RFC3339),
		text.Age(c.now().Sub(d.Created)))
	line("Netns", "%s", cmp.Or(d.Netns.Path, "-"))
	line("Netns cookie", "%d (inode %d)", d.Netns.Cookie, d.Netns.Ino)
	line("Hook", "%s", d.Hook)
	line("Failure policy", "%s: packets that cannot be inspected %s", d.FailurePolicy,
		outcomeOf(d.FailurePolicy))
	line("Reader", "%s", view.ReaderOf(&d.Attachment))
	addPackets(&f, n)
	line("Inspector", "%s per packet", perPacket(n))
	line("Settled", "%d flows; the kernel decided %d packets of them", n.Settled,
		d.HookCounters.Settled)
	line("Problem", "%s", cmp.Or(d.Problem, "none"))
	for i := range d.Programs {
		c.addProgram(&f, &d.Programs[i])
	}
	addWords(&f, "Annotation", d.Annotations)
	addWords(&f, "Label", d.Labels)
	for _, warning := range d.Warnings {
		line("Warning", "%s", warning)
	}
	refused, others := partRefusals(d.Events)
	errs := []error{
		f.Write(c.out), c.writeQueues(d.QueueStates), c.writeEffective(d.Rules),
		c.writeRecent("Events", others),
	}
	if len(refused) > 0 {
		errs = append(errs, c.writeRecent("Refused", refused))
	}
	return errors.Join(errs...)
}

// addProgram adds a program that runs for the pod.
func (c *command) addProgram(f *text.Fields, p *api.Program) {
	state := "does not run"
	if p.PID != 0 {
		state = fmt.Sprintf("process %d, does not read queue %d", p.PID, p.Queue)
	}
	if p.Ready {
		state = fmt.Sprintf("%s, reads queue %d", text.Process(p.PID), p.Queue)
	}
	if p.Since != nil {
		state += ", for " + text.Age(c.now().Sub(*p.Since))
	}
	f.Add("Program", "%s: %s, %s", p.Name, state, text.Plural(int(p.Restarts), "restart"))
	if u := p.Usage; u != nil {
		f.Add("Program uses", "%.1f MiB of memory, %.1f s of processor time",
			float64(u.MemoryBytes)/(1<<20), u.CPUSeconds)
	}
	if p.LastEnd != "" {
		f.Add("Program's last end", "it %s", p.LastEnd)
	}
}

// addWords adds annotations or labels, each with the beginning of its value.
func addWords(f *text.Fields, what string, words map[string]string) {
	const shown = 200
	for _, name := range slices.Sorted(maps.Keys(words)) {
		value, more := words[name], ""
		if len(value) > shown {
			value, more = value[:shown], fmt.Sprintf("... (%d bytes)", len(value))
		}
		f.Add(what, "%s: %q%s", name, strings.ToValidUTF8(value, ""), more)
	}
}

// perPacket is the mean time of the inspector per packet.
func perPacket(n *api.Counters) string {
	if n.Packets == 0 {
		return "-"
	}
	return time.Duration(n.InspectNanoseconds / n.Packets).Round(10 * time.Nanosecond).String()
}

// outcomeOf says what a policy does with packets.
func outcomeOf(p api.Policy) string {
	if p == api.Fail {
		return "are dropped"
	}
	return "pass"
}

func (c *command) writeQueues(queues []api.QueueState) error {
	if len(queues) == 0 {
		_, err := fmt.Fprintln(c.out, "Queues:  none")
		return err
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "Queues:\nNUMBER\tBOUND\tWAITING\tLENGTH\tDROPPED: QUEUE FULL\tBUFFER FULL")
	for _, q := range queues {
		bound := "yes"
		if !q.Bound {
			bound = "no"
		}
		fmt.Fprintf(w, "%d\t%s\t%d\t%d\t%d\t%d\n", q.Number, bound, q.Waiting, q.Length,
			q.QueueDropped, q.UserDropped)
	}
	return w.Flush()
}

// writeEffective prints the rules that concern an attachment, in their order.
func (c *command) writeEffective(rules []api.EffectiveRule) error {
	if len(rules) == 0 {
		return nil
	}
	fmt.Fprintln(c.out, "Rules:")
	t := text.Table{
		Head: []string{"RULE", "ACTION", "MODE", "WHEN"}, Elastic: "RULE", Prose: true,
		Spare: []string{"MODE"},
	}
	for _, r := range rules {
		t.Add(r.Set+"/"+r.Rule, r.Action, r.Mode, cmp.Or(r.When, "-"))
	}
	return c.printer().Table(&t)
}

// partRefusals has refusals apart from other events, which they would push out.
func partRefusals(events []api.Event) (refusals, others []api.Event) {
	for _, e := range events {
		if e.Refusal.Rule != "" {
			refusals = append(refusals, e)
		} else {
			others = append(others, e)
		}
	}
	return refusals, others
}

// writeRecent prints the latest events, under a title.
func (c *command) writeRecent(title string, events []api.Event) error {
	if len(events) == 0 {
		_, err := fmt.Fprintln(c.out, title+":  none")
		return err
	}
	fmt.Fprintln(c.out, title+":")
	for i := max(0, len(events)-recentEvents); i < len(events); i++ {
		e := &events[i]
		const indent = "                                  "
		if _, err := fmt.Fprintf(c.out, "%s  %-10s  %s\n", view.EventTime(e), e.Kind,
			text.Wrap(view.EventMessage(e), indent)); err != nil {
			return err
		}
	}
	return nil
}
