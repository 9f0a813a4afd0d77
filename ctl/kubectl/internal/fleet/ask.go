// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/pods"
)

const (
	// maxAnswer is more than a node with thousands of pods has to say.
	maxAnswer = 16 << 20
	// maxSaid is more than a reason for anything.
	maxSaid = 16 << 10
)

// Answer is what a node has said.
type Answer struct {
	Node string
	// Out is what nsqueuectl has printed.
	Out []byte
	// Status is its exit status.
	Status int
	// Err is why there is no answer. A status other than 0 is no such reason.
	Err error
	// Said is what it has printed beside.
	Said string
}

// Ask runs nsqueuectl once in each pod, and returns the answers in the order of the pods.
// The function tell is called with the nodes from which an answer is missing, when one has
// come and at the beginning; not by two at a time.
func (f *Fleet) Ask(
	ctx context.Context, list []pods.Pod, args []string, tell func(missing []string),
) []Answer {
	answers := make([]Answer, len(list))
	missing := missingNodes(list)
	tell(missing.names())
	var mu sync.Mutex
	places := make(chan struct{}, f.Parallel)
	var asking sync.WaitGroup
	for i := range list {
		asking.Go(func() {
			places <- struct{}{}
			answers[i] = f.askOne(ctx, list[i], args)
			<-places
			mu.Lock()
			defer mu.Unlock()
			missing.remove(list[i].Node)
			tell(missing.names())
		})
	}
	asking.Wait()
	return answers
}

func (f *Fleet) askOne(ctx context.Context, p pods.Pod, args []string) Answer {
	if err := ctx.Err(); err != nil {
		return Answer{Node: p.Node, Err: err}
	}
	out, said := &bounded{limit: maxAnswer}, &bounded{limit: maxSaid, cut: true}
	err := f.Exec(ctx, p, args, out, said)
	a := Answer{Node: p.Node, Out: out.Bytes(), Said: message(said.String()), Err: err}
	if status, ok := exitStatus(err); ok {
		a.Status, a.Err = status, nil
	}
	return a
}

// missing are the nodes of which something is awaited, in order.
type missing struct{ nodes []string }

func missingNodes(list []pods.Pod) *missing {
	m := &missing{}
	for _, p := range list {
		m.nodes = append(m.nodes, p.Node)
	}
	return m
}

func (m *missing) remove(node string) {
	for i, name := range m.nodes {
		if name == node {
			m.nodes = append(m.nodes[:i:i], m.nodes[i+1:]...)
			return
		}
	}
}

func (m *missing) names() []string { return m.nodes }

// ErrorPrefix is what nsqueuectl begins a line with that says why it fails.
const ErrorPrefix = "nsqueuectl: "

// message is what nsqueuectl says of an error, without its name and empty lines.
func message(said string) string {
	var lines []string
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		if line != "" {
			lines = append(lines, strings.TrimPrefix(line, ErrorPrefix))
		}
	}
	return strings.Join(lines, "\n")
}

var errTooLong = errors.New("the answer is too long")

// bounded keeps what is written, up to a limit: what is more is cut, or an error.
type bounded struct {
	bytes.Buffer
	limit int
	cut   bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if room := b.limit - b.Len(); len(p) > room {
		if !b.cut {
			return 0, fmt.Errorf("%w: more than %d bytes", errTooLong, b.limit)
		}
		_, _ = b.Buffer.Write(p[:room])
		return len(p), nil
	}
	return b.Buffer.Write(p)
}
