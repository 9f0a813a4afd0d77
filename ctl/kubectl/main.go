// SPDX-License-Identifier: Apache-2.0

// Command kubectl-nsqueue is a plugin of kubectl: it asks nsqueued on all nodes of a cluster
// at once, by running nsqueuectl in the pods of nsqueue. It has the names and flags of
// nsqueuectl's commands, and those of kubectl that say which cluster is meant.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // the ways to prove who one is that kubectl has
	"k8s.io/klog/v2"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/fleet"
	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/pods"
	"github.com/nsqueue/nsqueue/internal/printable"
)

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal ends the program the hard way.
	defer context.AfterFunc(ctx, stop)()
	// The libraries log what this program reports, and quote what nodes say as it is.
	klog.SetLogger(logr.Discard())
	s := &IOStreams{
		out: os.Stdout, err: os.Stderr, now: time.Now, open: open,
		width:  func() int { return text.TerminalWidth(os.Stdout) },
		height: func() int { return text.TerminalHeight(os.Stdout) },
		pause:  2 * time.Second, progressAfter: 2 * time.Second,
	}
	return execute(ctx, s, os.Args[1:])
}

// cluster is what commands ask: a [pods.Cluster], of the namespaces that flags name.
type cluster interface {
	fleet.Cluster
	Forward(ctx context.Context, p pods.Pod, local, remote uint16,
		ready func(port uint16) error) error
}

// IOStreams is what the commands touch besides the cluster.
type IOStreams struct {
	// out and err are for text. They escape what is not printable, such as escape
	// sequences in a name.
	out, err io.Writer
	// raw is out for binary data, and for the program's own escape sequences.
	raw  io.Writer
	now  func() time.Time
	open func(*genericclioptions.ConfigFlags, string) (cluster, error)
	// width and height are what out has where it is a terminal, else 0.
	width, height func() int
	// pause is how long to wait before a node that was lost is called again.
	pause time.Duration
	// progressAfter is how long a command may work in silence; 0 means without limit.
	progressAfter time.Duration
}

// The exit statuses.
const (
	statusOK          = 0
	statusFailed      = 1 // a node has not answered, or has found something wrong
	statusUsage       = 2
	statusUnreachable = 3 // the cluster has not answered, or has no nsqueue
)

// escaped returns streams that escape text, and a function that writes the rest.
func (s *IOStreams) escaped() (*IOStreams, func()) {
	e := *s
	out, err := printable.NewWriter(s.out), printable.NewWriter(s.err)
	e.raw, e.out, e.err = s.out, out, err
	return &e, func() { _ = errors.Join(out.Close(), err.Close()) }
}

// execute runs one command line and returns its exit status.
func execute(ctx context.Context, s *IOStreams, args []string) int {
	s, closeText := s.escaped()
	defer closeText()
	cmd := newRoot(s)
	cmd.SetArgs(append([]string{}, args...)) // nil would mean those of the process
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return statusOK
	}
	fmt.Fprintf(s.err, "kubectl nsqueue: %v\n", err)
	failure, ok := errors.AsType[*statusError](err)
	if !ok {
		failure = &statusError{status: statusUsage}
	}
	if failure.status == statusUsage {
		fmt.Fprintln(s.err, "See kubectl nsqueue --help.")
	}
	return failure.status
}

// statusError is an error that a command met when it ran. All others are about the command
// line.
type statusError struct {
	status int
	cause  error
}

func (e *statusError) Error() string { return e.cause.Error() }

func (e *statusError) Unwrap() error { return e.cause }

func usageErrorf(format string, args ...any) error {
	return &statusError{statusUsage, fmt.Errorf(format, args...)}
}

func unreachable(err error) error {
	if err == nil {
		return nil
	}
	return &statusError{statusUnreachable, err}
}

// failed gives an error that has no status yet that of a failure.
func failed(err error) error {
	if _, ok := errors.AsType[*statusError](err); ok || err == nil {
		return err
	}
	return &statusError{statusFailed, err}
}
