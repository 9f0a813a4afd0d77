// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/succession"
	"github.com/nsqueue/nsqueue/daemon/node"
)

const retireHelp = `End inspection on this node for good, before nsqueue is removed from it: every
pod is detached without losing a packet, whatever its failure policy, and no pod is
attached any more. Pods that start before the plugin is gone start uninspected.

Where nsqueued runs, it does so, and goes on to answer the plugin until it is
stopped. Its supervisor then waits for no successor, and nsqueuectl install --watch
ends. An nsqueued that starts later, with a supervisor of its own, is a new
installation: it inspects pods.

Where no nsqueued runs, retire takes up what the last one has left, such as tables of
pods under failure policy Fail, and removes that.

retire may be repeated. Then take the plugin away: nsqueuectl uninstall. With
--instance, retire does nothing, and says so, where another installation runs.`

func retireCommand() *cobra.Command {
	set := newSettings()
	timeout, shared, instance := time.Minute, "", ""
	cmd := &cobra.Command{
		Use:   "retire",
		Short: "End inspection on this node, before nsqueue is removed",
		Long:  retireHelp,
		Example: "  nsqueued retire\n" +
			"  nsqueued retire --state-dir /run/nsqueue --hook nft",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := set.config(cmd)
			if err == nil {
				err = c.Validate()
			}
			if err != nil {
				return err
			}
			if timeout <= 0 {
				return fmt.Errorf("timeout %v: want more than 0s", timeout)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			r := retirer{
				config: &c, shared: cmp.Or(shared, c.StateDir), instance: instance,
				out: cmd.OutOrStdout(), err: cmd.ErrOrStderr(),
			}
			return r.run(ctx)
		},
	}
	set.addTo(cmd)
	cmd.Flags().StringVar(&shared, "handover-dir", "",
		"`directory` that supervisors share (default: that of --state-dir)")
	cmd.Flags().StringVar(&instance, "instance", "",
		"`name` of the installation to end, that of its supervisors (default: any)")
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "how long to try")
	return cmd
}

// retirer ends inspection, by the daemon or without one.
type retirer struct {
	config   *node.Config
	shared   string // the directory of supervisors
	instance string // empty: any
	out, err io.Writer
}

const (
	// retryRetire is how often it is tried.
	retryRetire = 500 * time.Millisecond
	// askTimeout is for how long a daemon may be silent.
	askTimeout = 3 * time.Second
)

// run tries until all is done. In between a daemon may start, or end.
func (r *retirer) run(ctx context.Context) error {
	tick := time.NewTicker(retryRetire)
	defer tick.Stop()
	var last error // of those that had the time to find out
	for {
		n, err := r.try(ctx)
		if other, ok := errors.AsType[*otherError](err); ok {
			_, err = fmt.Fprintf(r.out, "nothing is done: %v\n", other)
			return err
		}
		if err == nil {
			_, err = fmt.Fprintf(r.out, "retired: %d attachments detached\n", n)
			return err
		}
		if last == nil || ctx.Err() == nil {
			if last == nil || last.Error() != err.Error() {
				fmt.Fprintf(r.err, "trying again: %v\n", err)
			}
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("retire: %w (%w)", last, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// try asks the daemon, and does its work where there is none.
func (r *retirer) try(ctx context.Context) (int, error) {
	client := api.NewClient(r.config.Socket)
	err := r.ask(ctx, client)
	if err == nil {
		return client.Retire(ctx)
	}
	if !errors.Is(err, api.ErrUnavailable) || ctx.Err() != nil {
		return 0, err
	}
	if name, active := succession.ActiveInstance(r.shared); active && !r.means(name) {
		return 0, &otherError{name}
	}
	if err := r.tellSupervisors(); err != nil {
		return 0, fmt.Errorf("tell supervisors: %w", err)
	}
	n, err := node.Retire(ctx, *r.config)
	if err == nil {
		succession.Clear(r.shared)
	}
	return n, err
}

// tellSupervisors has a daemon retire by itself that a supervisor starts again and again.
func (r *retirer) tellSupervisors() error {
	if _, err := os.Stat(r.shared); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return succession.Retire(succession.RetirementPath(r.shared), r.instance)
}

// ask finds out whether a daemon answers.
func (r *retirer) ask(ctx context.Context, client *api.Client) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	s, err := client.Status(ctx)
	if h := s.Supervisor.Handover; err == nil && h != nil && !r.means(h.Instance) {
		return &otherError{h.Instance}
	}
	return err
}

// means reports whether an installation is the one to end.
func (r *retirer) means(instance string) bool { return r.instance == "" || r.instance == instance }

// otherError says that another installation runs here.
type otherError struct{ instance string }

func (e *otherError) Error() string {
	return fmt.Sprintf("the installation here is %.64q", e.instance)
}
