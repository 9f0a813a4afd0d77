// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/printable"
)

const readyHelp = `Say in one line whether nsqueued is ready: it has taken up the pods of the
nsqueued before it, and answers calls. This is for probes of a container, and
for scripts.

With --runtime-dir the command asks the supervisor that has this runtime
directory ("nsqueued supervise") instead of the daemon at the socket. Two
containers that share the socket can be told apart only that way. A supervisor
that stands by is ready, too.

Problems of single pods change nothing: "nsqueuectl status" shows them.

Exit status:
  0  ready
  1  not ready
  2  wrong usage
  3  nothing answers`

func newReady(run runner) *cobra.Command {
	timeout := 5 * time.Second
	runtimeDir := ""
	cmd := &cobra.Command{
		Use:   "ready",
		Short: "Say whether nsqueued is ready",
		Long:  readyHelp,
		Example: `  nsqueuectl ready
  nsqueuectl ready --runtime-dir /run/nsqueue --timeout 1s`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), func(ctx context.Context, c *command) error {
				if timeout <= 0 {
					return usageErrorf("timeout %v: want more than 0s", timeout)
				}
				ctx, cancel := context.WithTimeout(ctx, timeout)
				defer cancel()
				return c.ready(ctx, runtimeDir)
			})
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "how long to wait for the answer")
	cmd.Flags().StringVar(&runtimeDir, "runtime-dir", "",
		"`DIRECTORY` of the supervisor to ask, as its own\n--runtime-dir")
	return cmd
}

// readiness is the command's output for programs.
type readiness struct {
	Ready bool `json:"ready"`
	// Reason says why not.
	Reason string `json:"reason,omitempty"`
	// Version is that of who answered.
	Version string `json:"version,omitempty"`
	// Attachments are absent where a supervisor answered, and Supervisor where it did not.
	Attachments *int                 `json:"attachments,omitempty"`
	Supervisor  *api.SupervisorState `json:"supervisor,omitempty"`
}

// line is the output for people where it is ready.
func (r *readiness) line() string {
	if s := r.Supervisor; s == nil {
		return fmt.Sprintf("ready: nsqueued %s serves %s", r.Version,
			text.Plural(*r.Attachments, "attachment"))
	} else if s.Role == api.RoleStandby {
		return fmt.Sprintf("ready: supervisor %s stands by", r.Version)
	}
	return fmt.Sprintf("ready: nsqueued under supervisor %s serves", r.Version)
}

func (c *command) ready(ctx context.Context, runtimeDir string) error {
	r, err := c.askReady(ctx, runtimeDir)
	r.Ready = err == nil
	if err != nil {
		r.Reason = err.Error()
	}
	if c.printer().Structured() {
		if err := c.printer().Object(r); err != nil {
			return err
		}
	} else if r.Ready {
		return c.printLine("%s", r.line())
	}
	return notReady(err)
}

// notReady is an error that is told in one line, with the exit status that it means.
func notReady(err error) error {
	if err == nil {
		return nil
	}
	status := statusFailed
	if errors.Is(err, api.ErrUnavailable) {
		status = statusUnreachable
	}
	return &statusError{status, errors.New(printable.Line("not ready: " + err.Error()))}
}

// askReady returns what the daemon or its supervisor answers, and why it is not ready.
func (c *command) askReady(ctx context.Context, runtimeDir string) (readiness, error) {
	if runtimeDir == "" {
		s, err := call(ctx, c, c.client.Status)
		if err != nil {
			return readiness{}, err
		}
		return readiness{Version: s.Version, Attachments: &s.Attachments}, nil
	}
	s, err := call(ctx, c, func(ctx context.Context) (api.SupervisorState, error) {
		return api.AskSupervisor(ctx, runtimeDir)
	})
	if err != nil {
		return readiness{}, err
	}
	return readiness{Version: s.Version, Supervisor: &s}, s.Ready()
}
