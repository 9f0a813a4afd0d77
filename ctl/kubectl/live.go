// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/answers"
	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/fleet"
	"github.com/nsqueue/nsqueue/internal/printable"
)

// refreshInterval is how often --watch shows what there is.
const refreshInterval = time.Second

// live follows what nodes print again and again. It shows the latest of all nodes together
// after each interval; for programs it prints everything as it comes.
func (c *command) live(
	ctx context.Context, args []string, interval time.Duration,
	show func(list []fleet.Answer) error,
) error {
	latest := map[string][]byte{}
	fresh := false
	tick := time.NewTicker(interval)
	defer tick.Stop()
	f := follower[[]byte]{
		sink: fleet.JSONLines(func(line []byte) ([]byte, error) {
			if !json.Valid(line) {
				return nil, errors.New("the node sends something else than JSON")
			}
			return slices.Clone(line), nil
		}),
		args: append(args, "-o", "json"), tick: tick.C,
	}
	f.value = func(node string, line []byte) error {
		if c.printer().Structured() {
			return c.writeStamped(node, line)
		}
		latest[node], fresh = line, true
		return nil
	}
	f.ticked = func(t *tracker) error {
		if c.printer().Structured() || !fresh && !t.changed() {
			return nil
		}
		for _, node := range t.away() {
			delete(latest, node)
		}
		fresh = false
		return c.show(func() error { return showLatest(c, latest, t, show) })
	}
	return follow(ctx, c, f)
}

func showLatest(
	c *command, latest map[string][]byte, t *tracker, show func(list []fleet.Answer) error,
) error {
	var list []fleet.Answer
	for _, node := range slices.Sorted(maps.Keys(latest)) {
		list = append(list, fleet.Answer{Node: node, Out: latest[node]})
	}
	if err := show(list); err != nil {
		return err
	}
	if away := t.away(); len(away) > 0 {
		_, err := fmt.Fprintln(c.out, "No answer: "+strings.Join(away, ", "))
		return err
	}
	return nil
}

// writeStamped prints an object as one of many, with its node.
func (c *command) writeStamped(node string, object []byte) error {
	stamped, err := answers.OfNode(node, object)
	if err != nil {
		return err
	}
	return c.printer().Item(stamped)
}

// show prints again: before each time it clears a terminal, after each time a pipe gets an
// empty line.
func (c *command) show(write func() error) error {
	if c.width() == 0 {
		if err := write(); err != nil {
			return err
		}
		_, err := fmt.Fprintln(c.out)
		return err
	}
	out, screen := c.out, &strings.Builder{}
	c.out = screen
	err := write()
	c.out = out
	if err != nil {
		return err
	}
	shown := printable.Text(text.Top(screen.String(), c.height()))
	_, err = fmt.Fprint(c.raw, text.ClearScreen, shown)
	return err
}

// follower says what is done with what nodes say that are followed.
type follower[T any] struct {
	args []string
	sink fleet.Sink[T]
	// begin is called once it is known that there are nodes; may be nil.
	begin func() error
	// value is called with each value.
	value func(node string, v T) error
	// up is called when a node answers, at the beginning or again; may be nil.
	up func(node string)
	// tick is when ticked is called.
	tick   <-chan time.Time
	ticked func(t *tracker) error
	// gap is what is said of the time in which a node was away.
	gap string
}

// errEnough ends what goes on.
var errEnough = errors.New("enough")

// follow runs nsqueuectl on all nodes until ctx ends, or a function says that it is enough.
// Its error names the nodes that do not answer then.
func follow[T any](ctx context.Context, c *command, f follower[T]) error {
	list, err := c.pods(ctx)
	if err != nil {
		return err
	}
	if n := len(list); n > c.flags.followed {
		return usageErrorf("this would keep connections to %d nodes, and --max-nodes allows %d: "+
			"choose some with --node", n, c.flags.followed)
	}
	if f.begin != nil {
		if err := f.begin(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	events := make(chan fleet.Event[T])
	go func() {
		defer close(events)
		fleet.Follow(ctx, c.fleet, list, f.args, f.sink, events)
	}()
	t := newTracker(list)
	err = takeAll(c, events, t, &f)
	cancel()
	for range events { // what is still under way
	}
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	return t.unanswered().err()
}

// takeAll takes events until there are no more, or that is enough.
func takeAll[T any](c *command, events <-chan fleet.Event[T], t *tracker, f *follower[T]) error {
	for {
		select {
		case e, more := <-events:
			if !more {
				return nil
			}
			if err := take(c, e, t, f); err != nil {
				return err
			}
		case <-f.tick:
			if err := f.ticked(t); err != nil {
				return err
			}
		}
	}
}

func take[T any](c *command, e fleet.Event[T], t *tracker, f *follower[T]) error {
	switch e.Kind {
	case fleet.Value:
		return f.value(e.Node, e.Value)
	case fleet.Said:
		if said := t.says(e.Node, e.Said); said != "" {
			c.tell("%s: %s", e.Node, said)
		}
	case fleet.Up:
		if t.up(e.Node) {
			c.tell("%s answers again%s", e.Node, f.gap)
		}
		if f.up != nil {
			f.up(e.Node)
		}
	case fleet.Down:
		c.tell("%s does not answer: %v; trying again", e.Node, t.down(e.Node, e.Err))
		if t.hopeless() {
			return errEnough
		}
	case fleet.Gone:
		if err := t.gone(e.Node, e.Err); err != nil {
			return err
		}
		c.tell("%s does not go on: %v", e.Node, t.states[e.Node].lost)
	}
	return nil
}
