// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/answers"
	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/fleet"
	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/pods"
	"github.com/nsqueue/nsqueue/daemon/api"
)

func newDescribe(run runner) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "describe NAMESPACE/POD | CONTAINER-ID[/IFNAME]",
		Short: "Show everything nsqueued knows of a pod, on the node that has it",
		Long: `Show everything nsqueued knows of the attachments of one pod or container, as
nsqueuectl describe does on the node that has it. The beginning of a container ID
is enough.`,
		Example: `  kubectl nsqueue describe default/busybox1
  kubectl nsqueue describe 0fd31c8e5a2b/eth0`,
		Args: cobra.ExactArgs(1),
	}
	output := addOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return run(cmd.Context(), *output, func(ctx context.Context, c *command) error {
			return c.describe(ctx, args[0])
		})
	}
	return cmd
}

// describe finds the nodes that have what is meant, and asks these.
func (c *command) describe(ctx context.Context, name string) error {
	all, err := c.pods(ctx)
	if err != nil {
		return err
	}
	list, bad, err := c.askPods(ctx, all, "list", "-o", "json")
	if err != nil {
		return err
	}
	var having []pods.Pod
	for _, a := range list {
		l, err := answers.Read[api.AttachmentList](a.Out)
		if err != nil {
			bad.add(a.Node, err)
			continue
		}
		if slices.ContainsFunc(l.Attachments, meant(name)) {
			i := slices.IndexFunc(all, func(p pods.Pod) bool { return p.Node == a.Node })
			having = append(having, all[i])
		}
	}
	if len(having) == 0 {
		return errors.Join(bad.err(), failed(fmt.Errorf("no node that answers has %q attached",
			name)))
	}
	return c.describeOn(ctx, having, name)
}

// meant says which attachments an argument may mean.
func meant(name string) func(api.Attachment) bool {
	id, _, _ := strings.Cut(name, "/")
	return func(a api.Attachment) bool {
		return a.Pod.Name != "" && a.Pod.String() == name || strings.HasPrefix(a.ContainerID, id)
	}
}

func (c *command) describeOn(ctx context.Context, having []pods.Pod, name string) error {
	args := []string{"describe"}
	if c.printer().Structured() {
		args = append(args, "-o", "json")
	}
	list, bad, err := c.askPods(ctx, having, append(args, "--", name)...)
	if err != nil {
		return err
	}
	if c.printer().Structured() {
		err = c.writeStructured(list, bad, "attachments")
	} else {
		err = c.writeTexts(list)
	}
	if err != nil {
		return err
	}
	return bad.err()
}

// writeTexts prints what nodes have printed for people, each below its name.
func (c *command) writeTexts(list []fleet.Answer) error {
	for i, a := range list {
		if i > 0 {
			fmt.Fprintln(c.out)
		}
		if _, err := fmt.Fprintf(c.out, "Node:  %s\n%s", a.Node, a.Out); err != nil {
			return err
		}
	}
	return nil
}
