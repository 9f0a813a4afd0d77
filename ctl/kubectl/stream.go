// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/fleet"
	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/inorder"
	"github.com/nsqueue/nsqueue/internal/printable"
)

const (
	// maxHeld bounds what is held to be put in order.
	maxHeld = 100_000
	// printEvery is how often lines are printed.
	printEvery = 50 * time.Millisecond
	// gather is for how long lines wait for all nodes to be connected to.
	gather = 10 * time.Second
)

// addWindow gives a command the flag for how long what comes is held.
func addWindow(cmd *cobra.Command) *time.Duration {
	return cmd.Flags().Duration("window", time.Second,
		"hold what comes for this `TIME`, to put it in order")
}

func checkWindow(window time.Duration) error {
	if window < 0 || window > time.Minute {
		return usageErrorf("window %s: want 0 to 1m", window)
	}
	return nil
}

// fromNode is something that a node has sent.
type fromNode[T any] struct {
	node  string
	value T
}

// stream prints what nodes send, in the order of time.
type stream[T any] struct {
	args   []string
	sink   fleet.Sink[T]
	window time.Duration
	// time is when a value happened.
	time func(v T) time.Time
	// accept says whether a value is to be printed, when it comes; nil means each.
	accept func(node string, v T) bool
	// show prints a value. Its error ends the stream; errEnough is none.
	show func(node string, v T) error
	// flush is called after some values were printed.
	flush func() error
	// up is called when a node answers; may be nil.
	up func(node string)
	// begin is called once it is known that there are nodes; may be nil.
	begin func() error
	// together holds what comes until all nodes have answered, or long enough.
	together bool
	gap      string
}

func (s *stream[T]) run(ctx context.Context, c *command) error {
	q := inorder.New[fromNode[T]](s.window, maxHeld)
	tick := time.NewTicker(printEvery)
	defer tick.Stop()
	began := time.Now()
	enough := false
	err := follow(ctx, c, follower[T]{
		args: s.args, sink: s.sink, tick: tick.C, up: s.up, gap: s.gap,
		begin: s.begin,
		value: func(node string, v T) error {
			if s.accept == nil || s.accept(node, v) {
				q.Add(fromNode[T]{node, v}, s.time(v), time.Now())
			}
			return nil
		},
		ticked: func(t *tracker) error {
			if s.together && !t.settled() && time.Since(began) < gather {
				return nil
			}
			err := s.printAll(q.Due(time.Now()))
			enough = errors.Is(err, errEnough)
			return err
		},
	})
	if !enough {
		if last := s.printAll(q.Rest()); last != nil && !errors.Is(last, errEnough) {
			return last
		}
	}
	if n := q.Late(); n > 0 {
		c.tell("%d came too late to be in order: a longer --window holds more", n)
	}
	return err
}

func (s *stream[T]) printAll(list []fromNode[T]) error {
	for _, one := range list {
		if err := s.show(one.node, one.value); err != nil {
			return errors.Join(err, s.flush())
		}
	}
	if len(list) == 0 {
		return nil
	}
	return s.flush()
}

// raw is a line with what was read of it.
type raw[T any] struct {
	line  []byte
	value T
}

// rawLines is a sink of lines of JSON.
func rawLines[T any](read func(line []byte) (T, error)) fleet.Sink[raw[T]] {
	return fleet.JSONLines(func(line []byte) (raw[T], error) {
		v, err := read(line)
		return raw[T]{slices.Clone(line), v}, err
	})
}

// linePrinter prints lines with the node in front.
type linePrinter struct {
	*command
	out   *bufio.Writer
	width int
}

func newLinePrinter(c *command) *linePrinter {
	w := bufio.NewWriter(c.out)
	own := *c
	own.out = w
	return &linePrinter{command: &own, out: w}
}

// write prints a line, or the object that it shows.
func (p *linePrinter) write(node, text string, object []byte) error {
	if p.printer().Structured() {
		return p.writeStamped(node, object)
	}
	name := printable.Line(node)
	p.width = max(p.width, len(name))
	_, err := fmt.Fprintf(p.out, "%-*s  %s\n", p.width, name, printable.Line(text))
	return err
}
