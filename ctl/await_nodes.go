// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/cluster"
	"github.com/nsqueue/nsqueue/ctl/internal/text"
)

const awaitNodesHelp = `Wait, in a pod of a cluster, until a DaemonSet has a ready pod on each of
its nodes, and say how far it is. When the time is over, the nodes without one are named.

The chart runs this when it is removed, while its DaemonSet cleans the nodes. A node
that is down must not keep it from ending, so that the exit status is 0 all the same;
with --strict it is 1.

The pod's service account must be allowed to get the DaemonSet, and to list pods.`

// awaitNodesFlags are the command's own flags.
type awaitNodesFlags struct {
	namespace, labels string
	timeout           time.Duration
	strict            bool
}

func newAwaitNodes(run runner) *cobra.Command {
	var f awaitNodesFlags
	cmd := &cobra.Command{
		Use:   "await-nodes DAEMONSET",
		Short: "Wait in a cluster until a DaemonSet is ready on all nodes",
		Long:  awaitNodesHelp,
		Example: "  nsqueuectl await-nodes nsqueue-cleanup --namespace nsqueue-system \\\n" +
			"      --labels app.kubernetes.io/name=nsqueue-cleanup",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return run(cmd.Context(), func(ctx context.Context, c *command) error {
				if f.timeout <= 0 {
					return usageErrorf("timeout %v: want more than 0s", f.timeout)
				}
				return c.awaitNodes(ctx, args[0], &f)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.namespace, "namespace", "n", "default", "`NAME` of its namespace")
	flags.StringVar(&f.labels, "labels", "", "`LABELS` that select its pods, as a=b,c=d")
	flags.DurationVar(&f.timeout, "timeout", 4*time.Minute, "how long to wait")
	flags.BoolVar(&f.strict, "strict", false, "fail when the time is over")
	return cmd
}

// awaitedNodes is the command's output for programs.
type awaitedNodes struct {
	Ready   int `json:"ready"`
	Desired int `json:"desired"`
	// Missing are the nodes without a ready pod, as far as it has been placed.
	Missing []string `json:"missing"`
	// Error says why it is not known.
	Error string `json:"error,omitempty"`
}

func (c *command) awaitNodes(ctx context.Context, name string, f *awaitNodesFlags) error {
	api, err := cluster.New(c.getenv, c.credentials())
	if err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	found := &awaitedNodes{Missing: []string{}}
	err = c.waitUntil(waiting, "the nodes", 0, func(ctx context.Context) error {
		return found.look(ctx, api, f.namespace, name)
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		found.nameMissing(ctx, api, f)
	}
	return c.reportNodes(found, err == nil, f.strict)
}

// look reads how far the DaemonSet is; its error is that this is not far enough.
func (a *awaitedNodes) look(
	ctx context.Context, api *cluster.Client, namespace, name string,
) error {
	d, err := api.DaemonSet(ctx, namespace, name)
	if err != nil {
		a.Error = err.Error()
		return err
	}
	a.Error, a.Ready, a.Desired = "", d.Status.NumberReady, d.Status.DesiredNumberScheduled
	if d.Ready() {
		return nil
	}
	return errors.New(a.count())
}

// nameMissing finds the nodes without a ready pod.
func (a *awaitedNodes) nameMissing(ctx context.Context, api *cluster.Client, f *awaitNodesFlags) {
	pods, err := api.Pods(ctx, f.namespace, f.labels)
	if err != nil {
		a.Error = err.Error()
	}
	for i := range pods {
		if node := pods[i].Spec.NodeName; node != "" && !pods[i].Ready() {
			a.Missing = append(a.Missing, node)
		}
	}
	slices.Sort(a.Missing)
	a.Missing = slices.Compact(a.Missing)
}

// credentials is where the pod has them.
func (c *command) credentials() string { return filepath.Join(c.root, cluster.Credentials) }

// reportNodes prints what was found; all says that no node is missing.
func (c *command) reportNodes(a *awaitedNodes, all, strict bool) error {
	if c.printer().Structured() {
		if err := c.printer().Object(a); err != nil {
			return err
		}
	} else if err := c.printLine("%s", a.count()); err != nil {
		return err
	}
	if all {
		return nil
	}
	if strict {
		return errors.New(a.why())
	}
	_, err := fmt.Fprintln(c.err, a.why())
	return err
}

func (a *awaitedNodes) count() string {
	return fmt.Sprintf("%d of %s ready", a.Ready, text.Plural(a.Desired, "node"))
}

// why says which nodes were not reached, as far as that is known.
func (a *awaitedNodes) why() string {
	why := "not reached: " + strings.Join(a.Missing, ", ")
	if len(a.Missing) == 0 {
		why = "it is not known which nodes were not reached"
	}
	if a.Error != "" {
		why += "; " + a.Error
	}
	return why
}
