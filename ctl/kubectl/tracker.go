// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/fleet"
	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/pods"
)

// tracker knows which nodes answer.
type tracker struct {
	nodes  []string
	states map[string]*nodeState
	change bool
}

type nodeState struct {
	answered bool   // at some time
	lost     error  // why it does not answer; nil where it does, or is being called first
	said     string // why nsqueuectl ends there
}

func newTracker(list []pods.Pod) *tracker {
	t := &tracker{states: map[string]*nodeState{}}
	for _, p := range list {
		t.nodes = append(t.nodes, p.Node)
		t.states[p.Node] = &nodeState{}
	}
	return t
}

// changed reports whether a node was lost or found since the last call.
func (t *tracker) changed() bool {
	changed := t.change
	t.change = false
	return changed
}

// up reports whether a node answers again that did not.
func (t *tracker) up(node string) bool {
	s := t.states[node]
	again := s.lost != nil
	s.answered, s.lost, s.said, t.change = true, nil, "", true
	return again
}

// down is that a node was lost. It returns why, as far as nsqueuectl has said it there.
func (t *tracker) down(node string, err error) error {
	s := t.states[node]
	s.lost, t.change = s.why(err), true
	return s.lost
}

// says returns what a node has said beside, if it is worth being told at once. The reason
// of an error is told with the error.
func (t *tracker) says(node, said string) string {
	if reason, ok := strings.CutPrefix(said, fleet.ErrorPrefix); ok {
		t.states[node].said = reason
		return ""
	}
	if strings.Contains(said, "press Ctrl-C to stop") || t.states[node].said != "" {
		return "" // the second is advice about an error
	}
	return said
}

// why is what nsqueuectl has said of how it has ended, else the error itself. There is none
// where a connection has broken, which looks like the end of a program.
func (s *nodeState) why(err error) error {
	_, ended := errors.AsType[*pods.ExitError](err)
	switch {
	case err == nil:
		return errors.New("the connection has ended")
	case ended && s.said != "":
		return errors.New(s.said)
	}
	return err
}

// gone is that nsqueuectl has ended on a node by itself. Where it was called wrongly, as it
// is on all nodes, the error says so.
func (t *tracker) gone(node string, err error) error {
	s := t.states[node]
	s.lost, t.change = s.why(err), true
	if exit, ok := errors.AsType[*pods.ExitError](err); ok && exit.Status == statusUsage {
		return usageErrorf("%s: %w", node, s.lost)
	}
	return nil
}

// settled reports whether each node has answered or is known not to.
func (t *tracker) settled() bool {
	return !slices.ContainsFunc(t.nodes, func(n string) bool {
		return !t.states[n].answered && t.states[n].lost == nil
	})
}

// away are the nodes that do not answer.
func (t *tracker) away() []string {
	var away []string
	for _, node := range t.nodes {
		if t.states[node].lost != nil {
			away = append(away, node)
		}
	}
	return away
}

func (t *tracker) unanswered() *unanswered {
	u := &unanswered{of: len(t.nodes)}
	for _, node := range t.away() {
		u.add(node, t.states[node].lost)
	}
	for _, node := range t.nodes {
		if s := t.states[node]; s.lost == nil && !s.answered {
			u.add(node, errors.New("no answer before the end"))
		}
	}
	return u
}

// hopeless reports whether no node has ever answered, and none is being called for the first
// time.
func (t *tracker) hopeless() bool {
	return !slices.ContainsFunc(t.nodes, func(n string) bool {
		return t.states[n].answered || t.states[n].lost == nil
	})
}
