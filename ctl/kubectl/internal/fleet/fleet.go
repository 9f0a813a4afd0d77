// SPDX-License-Identifier: Apache-2.0

// Package fleet runs nsqueuectl on many nodes at once, so many at a time, and says which did
// not answer. It knows nothing of what nsqueuectl prints.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/pods"
)

// Cluster is where the nodes are: a [pods.Cluster], of some namespaces.
type Cluster interface {
	// Find returns the pods of nsqueue, one for each node.
	Find(ctx context.Context) ([]pods.Pod, error)
	// Exec runs nsqueuectl in a pod; its error is a [pods.ExitError] if that has failed.
	Exec(ctx context.Context, p pods.Pod, args []string, stdout, stderr io.Writer) error
}

// Fleet is the nodes of a cluster.
type Fleet struct {
	Cluster Cluster
	// Parallel is how many nodes are asked at a time, or are being connected to.
	Parallel int
	// Silence is for how long a node may say nothing.
	Silence time.Duration
	// Pause is how long to wait before a node that was lost is called again.
	Pause time.Duration
}

const (
	// beats is how often a node says at least that it is there within the time of its
	// silence, and maxBeat is the longest time between two of them.
	beats   = 4
	maxBeat = 2 * time.Second
	// farewell is how long a connection may take to end once it was told to.
	farewell = time.Second
)

// SilentError says that a node has said nothing for too long.
type SilentError struct{ For time.Duration }

func (e *SilentError) Error() string { return fmt.Sprintf("no answer within %s", e.For) }

// ProblemError says why a node has no pod in which anything can be run.
type ProblemError struct{ Problem string }

func (e *ProblemError) Error() string { return e.Problem }

// Exec runs nsqueuectl on a node, and has it say now and then that it is there. It returns
// when ctx ends, even if the connection does not end: nothing is written after that.
func (f *Fleet) Exec(
	ctx context.Context, p pods.Pod, args []string, stdout, stderr io.Writer,
) error {
	if p.Problem != "" {
		return &ProblemError{p.Problem}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	g := newGate(f.Silence, cancel)
	beat := min(f.Silence/beats, maxBeat)
	args = append([]string{"--keepalive=" + beat.String(), "--end-with-stdin"}, args...)
	var err error // is set before that is closed
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err = f.Cluster.Exec(ctx, p, args, g.writer(stdout), g.writer(stderr))
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		select {
		case <-ended:
		case <-time.After(farewell):
		}
	}
	g.close()
	if cause := context.Cause(ctx); cause != nil { // it says more than what it has led to
		return cause
	}
	return err
}

// gate leads to the writers of a connection as long as that is of use. It ends the
// connection when nothing has come for too long, or when a writer has failed.
type gate struct {
	silence time.Duration
	end     context.CancelCauseFunc
	timer   *time.Timer

	mu     sync.Mutex
	closed bool
}

func newGate(silence time.Duration, end context.CancelCauseFunc) *gate {
	return &gate{
		silence: silence, end: end,
		timer: time.AfterFunc(silence, func() { end(&SilentError{silence}) }),
	}
}

// close waits for a writer that is at work.
func (g *gate) close() {
	g.timer.Stop()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.timer.Stop()
	g.closed = true
}

func (g *gate) writer(w io.Writer) io.Writer { return &gated{g, w} }

type gated struct {
	*gate
	w io.Writer
}

// Write always succeeds: who reads the connection would log an error, and go on. The time in
// which the reader is slow does not count as the node's silence.
func (g *gated) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return len(p), nil
	}
	g.timer.Stop()
	if _, err := g.w.Write(p); err != nil {
		g.closed = true
		g.end(err)
		return len(p), nil
	}
	g.timer.Reset(g.silence)
	return len(p), nil
}

// exitStatus is that of nsqueuectl, if it has run.
func exitStatus(err error) (int, bool) {
	exit, ok := errors.AsType[*pods.ExitError](err)
	if !ok {
		return 0, false
	}
	return exit.Status, true
}
