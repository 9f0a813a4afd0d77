// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/pods"
)

// Kind of an [Event].
type Kind int

// The kinds.
const (
	Value Kind = iota // the node has sent one
	Said              // nsqueuectl has printed a line beside
	Up                // the node answers, at the beginning or again
	Down              // the node was lost, or does not answer at the beginning
	Gone              // as Down, and it is not called again
)

// Event is something of a node that is followed.
type Event[T any] struct {
	Node  string
	Kind  Kind
	Value T
	Said  string
	// Err is why it is Down or Gone.
	Err error
}

// Sink returns what reads the output of nsqueuectl for one connection, and calls emit with
// each value in it. An error of it ends the connection.
type Sink[T any] func(emit func(T) error) io.WriteCloser

// Follow runs nsqueuectl in each pod until ctx ends, and calls those again that were lost,
// in the pod that their node has then. It sends what they say to events, and returns when
// ctx has ended or no node is left; nothing is sent after that.
func Follow[T any](
	ctx context.Context, f *Fleet, list []pods.Pod, args []string, sink Sink[T],
	events chan<- Event[T],
) {
	places := make(chan struct{}, f.Parallel)
	find := &finder{cluster: f.Cluster, pause: f.Pause}
	var following sync.WaitGroup
	for _, p := range list {
		n := &followed[T]{
			Fleet: f, pod: p, args: args, sink: sink, events: events, places: places, find: find,
		}
		following.Go(func() { n.follow(ctx) })
	}
	following.Wait()
}

// followed is one node.
type followed[T any] struct {
	*Fleet
	pod    pods.Pod
	args   []string
	sink   Sink[T]
	events chan<- Event[T]
	places chan struct{} // of those that are being connected to
	find   *finder

	down    bool // it was said
	failing bool // nsqueuectl says why it fails
}

func (n *followed[T]) follow(ctx context.Context) {
	for ctx.Err() == nil {
		err := n.connect(ctx)
		if ctx.Err() != nil {
			return
		}
		if status, ok := exitStatus(err); ok && final(status) {
			_ = n.send(ctx, Event[T]{Node: n.pod.Node, Kind: Gone, Err: err})
			return
		}
		if !n.down {
			n.down = true
			_ = n.send(ctx, Event[T]{Node: n.pod.Node, Kind: Down, Err: err})
		}
		if !pause(ctx, n.Pause) {
			return
		}
		n.pod = n.find.again(ctx, n.pod)
	}
}

// final reports whether nsqueuectl would end in the same way again: the call was refused or
// wrong. One that was told to end, as its container was, or that has found no daemon, may be
// called again.
func final(status int) bool { return status == 1 || status == 2 }

// connect runs nsqueuectl until it ends.
func (n *followed[T]) connect(ctx context.Context) error {
	select {
	case n.places <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	n.failing = false
	connected := sync.OnceFunc(func() { <-n.places })
	defer connected()
	up := sync.OnceFunc(func() {
		connected()
		n.down = false
		_ = n.send(ctx, Event[T]{Node: n.pod.Node, Kind: Up})
	})
	out := n.sink(func(v T) error {
		return n.send(ctx, Event[T]{Node: n.pod.Node, Kind: Value, Value: v})
	})
	err := n.Exec(ctx, n.pod, n.args, &first{out, up}, &first{n.said(ctx, up), connected})
	if closed := out.Close(); err == nil { // after what it still has to send
		err = closed
	}
	return err
}

// said reads what nsqueuectl prints beside. The node answers when it says something else than
// why it fails, or is there for a while.
func (n *followed[T]) said(ctx context.Context, up func()) io.Writer {
	heard := 0
	return Lines(func(line []byte) error {
		text := string(bytes.TrimSpace(line))
		if text == "" {
			if heard++; heard == 2 {
				up()
			}
			return nil
		}
		if !strings.HasPrefix(text, ErrorPrefix) && !n.failing {
			up()
		} else {
			n.failing = true
		}
		return n.send(ctx, Event[T]{Node: n.pod.Node, Kind: Said, Said: text})
	})
}

// send waits until the event is taken. It fails when ctx ends, which each caller sees.
func (n *followed[T]) send(ctx context.Context, e Event[T]) error {
	select {
	case n.events <- e:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// first calls a function before the first byte.
type first struct {
	io.Writer
	call func()
}

func (f *first) Write(p []byte) (int, error) {
	if len(p) > 0 {
		f.call()
	}
	return f.Writer.Write(p)
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// finder finds pods again, for many nodes at once.
type finder struct {
	cluster Cluster
	pause   time.Duration

	mu    sync.Mutex
	known []pods.Pod
	at    time.Time
}

// again returns the pod of a node as it is now; the old one where that is not known.
func (f *finder) again(ctx context.Context, old pods.Pod) pods.Pod {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at.IsZero() || time.Since(f.at) >= f.pause {
		list, err := f.cluster.Find(ctx)
		f.at = time.Now()
		if err != nil {
			return old
		}
		f.known = list
	}
	i := slices.IndexFunc(f.known, func(p pods.Pod) bool { return p.Node == old.Node })
	if i < 0 {
		return old
	}
	return f.known[i]
}
