// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/fleet"
	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/pods"
	"github.com/nsqueue/nsqueue/daemon/api"
)

const rootHelp = `kubectl nsqueue asks nsqueued on all nodes of a cluster at once. It runs
nsqueuectl in the pods of nsqueue, and puts what they say together, with the node
in front.

-n names the namespace of nsqueue; by default it is searched. The pods that
nsqueue inspects are chosen with --pod and --pod-namespace.

Exit status:
  0  all nodes have answered
  1  a node has not answered, or said no; doctor found something wrong
  2  wrong usage
  3  the cluster could not be asked, or has no nsqueue`

// globalFlags are those of all commands.
type globalFlags struct {
	kube     *genericclioptions.ConfigFlags
	selector string
	nodes    []string
	parallel int
	followed int
	timeout  time.Duration
}

const (
	// leastTimeout keeps nodes from being asked to say all the time that they are there.
	leastTimeout = time.Second
	// maxParallel is more than an API server likes.
	maxParallel = 1000
)

func (f *globalFlags) validate() error {
	switch {
	case f.parallel < 1 || f.parallel > maxParallel:
		return usageErrorf("parallel %d: want 1 to %d", f.parallel, maxParallel)
	case f.followed < 1:
		return usageErrorf("max-nodes %d: want 1 or more", f.followed)
	case f.timeout < leastTimeout:
		return usageErrorf("timeout %s: want at least %s", f.timeout, leastTimeout)
	}
	return nil
}

// newRoot returns the command tree.
func newRoot(s *IOStreams) *cobra.Command {
	all := &globalFlags{kube: genericclioptions.NewConfigFlags(true)}
	root := &cobra.Command{
		Use:           "kubectl-nsqueue",
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl nsqueue"},
		Short:         "Show what nsqueued inspects on all nodes",
		Long:          rootHelp,
		Version:       api.Version(),
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	// kubectl completes no flags of its plugins by what they print.
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetVersionTemplate("kubectl-nsqueue {{.Version}}\n")
	all.addTo(root)
	for _, build := range []func(runner) *cobra.Command{
		newCapture, newDescribe, newDoctor, newEvents, newList, newRules, newStats, newStatus,
		newUI, newWatch,
	} {
		root.AddCommand(build(newRunner(s, all)))
	}
	root.AddCommand(newVersion(s))
	return root
}

func (f *globalFlags) addTo(root *cobra.Command) {
	flags := root.PersistentFlags()
	f.kube.AddFlags(flags)
	flags.Lookup("namespace").Usage = "namespace of nsqueue (default: search for it)"
	flags.StringVar(&f.selector, "selector", pods.Selector, "`LABELS` of the pods of nsqueue")
	flags.StringSliceVar(&f.nodes, "node", nil,
		"ask this `NODE` only; may be given several times")
	flags.IntVar(&f.parallel, "parallel", 16, "ask at most `N` nodes at a time")
	flags.IntVar(&f.followed, "max-nodes", 200,
		"keep connections to at most `N` nodes, for commands\nthat go on")
	flags.DurationVar(&f.timeout, "timeout", 30*time.Second,
		"a node that says nothing for this `TIME` does not answer")
}

// runner runs a command's function with what the global flags say.
type runner func(ctx context.Context, output string, f func(context.Context, *command) error) error

func newRunner(s *IOStreams, all *globalFlags) runner {
	return func(ctx context.Context, output string, f func(context.Context, *command) error) error {
		if err := all.validate(); err != nil {
			return err
		}
		if !slices.Contains(text.Formats(), output) {
			return usageErrorf("output format %q: want %s", output,
				strings.Join(text.Formats(), ", "))
		}
		found, err := s.open(all.kube, all.selector)
		if err != nil {
			return unreachable(err)
		}
		return failed(f(ctx, &command{
			IOStreams: s, cluster: found, flags: all, output: output,
			fleet: &fleet.Fleet{
				Cluster: found, Parallel: all.parallel, Silence: all.timeout, Pause: s.pause,
			},
		}))
	}
}

// namespaced looks for nsqueue in some namespaces.
type namespaced struct {
	*pods.Cluster
	namespaces []string
}

// Find returns the pods of the first namespace that has some.
func (n *namespaced) Find(ctx context.Context) ([]pods.Pod, error) {
	return n.Cluster.Find(ctx, n.namespaces...)
}

// open returns the cluster that the flags mean. Where no namespace is named, that is all of
// them, and for those who may not see these the context's, and the usual one.
func open(flags *genericclioptions.ConfigFlags, selector string) (cluster, error) {
	config, err := flags.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	config.UserAgent = "kubectl-nsqueue/" + api.Version()
	// More than Parallel allows waits there already.
	config.QPS, config.Burst = -1, 0
	c, err := pods.Open(config, selector)
	if err != nil {
		return nil, err
	}
	if named := *flags.Namespace; named != "" {
		return &namespaced{c, []string{named}}, nil
	}
	current, _, err := flags.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return nil, err
	}
	return &namespaced{c, []string{
		"", cmp.Or(current, pods.DefaultNamespace), pods.DefaultNamespace,
	}}, nil
}

func newVersion(s *IOStreams) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version of this program",
		Example: "  kubectl nsqueue version",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(s.out, "kubectl-nsqueue", api.Version())
			return err
		},
	}
}
