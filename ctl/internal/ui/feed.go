// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// How often a feed tells of what has changed, and how often it asks nsqueued.
const (
	tell        = 250 * time.Millisecond
	askRefused  = 250 * time.Millisecond
	askPods     = time.Second
	askNames    = 2 * time.Second
	watchAgain  = 500 * time.Millisecond
	packetsRate = 2000 // packets a second that flows are made of, at most
)

// serveFeed sends server-sent events until the page is closed: node, pods, refused and
// flows, each with JSON.
func (s *Server) serveFeed(w http.ResponseWriter, r *http.Request) {
	select {
	case s.feeds <- struct{}{}:
		defer func() { <-s.feeds }()
	default:
		http.Error(w, "Too many pages are open: close some.", http.StatusTooManyRequests)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	ctx, cancel := context.WithCancel(r.Context())
	f := &feed{
		daemon: s.daemon, flows: newFlowTable(), out: &eventWriter{w: w, cancel: cancel},
	}
	f.run(ctx)
	cancel()
}

// feed is what one page gets.
type feed struct {
	daemon Daemon
	out    *eventWriter

	mu    sync.Mutex
	flows *flowTable
	error string // why packets cannot be watched
}

// run ends when ctx does.
func (f *feed) run(ctx context.Context) {
	var asking sync.WaitGroup
	asking.Go(func() { f.watch(ctx) })
	asking.Go(func() { every(ctx, askPods, f.tellPods) })
	asking.Go(func() { every(ctx, askRefused, f.tellRefused) })
	asking.Go(func() { every(ctx, askNames, f.learnNames) })
	asking.Go(func() { every(ctx, tell, f.tellFlows) })
	asking.Wait()
}

// every calls do at once and then again and again until ctx ends.
func every(ctx context.Context, interval time.Duration, do func(context.Context)) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		one, cancel := context.WithTimeout(ctx, patience)
		do(one)
		cancel()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// watch makes flows of packets, also of those of later daemons.
func (f *feed) watch(ctx context.Context) {
	tick := time.NewTicker(watchAgain)
	defer tick.Stop()
	for {
		err := f.daemon.Watch(ctx, api.WatchRequest{Rate: packetsRate}, func() { f.setError(nil) },
			func(events []api.PacketEvent) error {
				f.mu.Lock()
				defer f.mu.Unlock()
				for i := range events {
					f.flows.add(&events[i])
				}
				return nil
			})
		f.setError(err)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (f *feed) setError(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.error = ""
	if err != nil {
		f.error = err.Error()
	}
}

// node is the head of the page.
type node struct {
	// Error says why nsqueued does not answer; all else is absent then.
	Error         string         `json:"error,omitempty"`
	Version       string         `json:"version"`
	Hook          api.HookStatus `json:"hook"`
	FailurePolicy api.Policy     `json:"failurePolicy"`
	Started       time.Time      `json:"started"`
	Problems      []api.Problem  `json:"problems"`
	Rules         string         `json:"rules"`
}

// pod is a row of the page: an attachment.
type pod struct {
	Key       string     `json:"key"`
	Namespace string     `json:"namespace"`
	Name      string     `json:"name"`
	Policy    api.Policy `json:"policy"`
	State     api.State  `json:"state"`
	Hook      string     `json:"hook"`
	Created   time.Time  `json:"created"`
	Packets   uint64     `json:"packets"`
	Bytes     uint64     `json:"bytes"`
	Refused   uint64     `json:"refused"`
	Problem   string     `json:"problem,omitempty"`
}

func (f *feed) tellPods(ctx context.Context) {
	status, err := f.daemon.Status(ctx)
	if err != nil {
		f.out.send("node", node{Error: err.Error()})
		return
	}
	list, err := f.daemon.List(ctx)
	if err != nil {
		f.out.send("node", node{Error: err.Error()})
		return
	}
	f.out.send("node", nodeOf(&status, f.watchError()))
	f.out.send("pods", podsOf(list.Attachments, status.Problems))
}

func (f *feed) watchError() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.error
}

func nodeOf(s *api.Status, watchError string) node {
	n := node{
		Error: watchError, Version: s.Version, Hook: s.Hook, FailurePolicy: s.FailurePolicy,
		Started: s.Started, Problems: append([]api.Problem{}, s.Problems...),
	}
	if s.Rules != nil {
		n.Rules = s.Rules.Problem
	}
	return n
}

func podsOf(attachments []api.Attachment, problems []api.Problem) []pod {
	of := make(map[api.Key]string, len(problems))
	for i := range problems {
		of[problems[i].Key] = problems[i].Message
	}
	pods := make([]pod, 0, len(attachments))
	for i := range attachments {
		a := &attachments[i]
		pods = append(pods, pod{
			Key: a.Key.String(), Namespace: a.Pod.Namespace, Name: a.Pod.Name,
			Policy: a.FailurePolicy, State: a.State, Hook: a.Hook, Created: a.Created,
			Packets: a.Counters.Packets, Bytes: a.Counters.Bytes,
			Refused: a.Counters.Dropped + a.Counters.Rejected, Problem: of[a.Key],
		})
	}
	return pods
}

func (f *feed) tellRefused(ctx context.Context) {
	if events, err := f.daemon.Events(ctx); err == nil {
		f.out.sendChanged("refused", groupRefused(events))
	}
}

func (f *feed) learnNames(ctx context.Context) {
	names, err := f.daemon.Names(ctx, 0)
	if err != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flows.learn(names.Names)
}

func (f *feed) tellFlows(context.Context) {
	f.mu.Lock()
	changed := f.flows.take()
	f.mu.Unlock()
	if len(changed) > 0 {
		f.out.send("flows", changed)
	}
}

// eventWriter sends server-sent events. It is safe for concurrent use.
type eventWriter struct {
	cancel context.CancelFunc // of the feed, when the page does not read any more

	mu   sync.Mutex
	w    http.ResponseWriter
	last map[string][]byte
}

// reading is how long a page may take to read an event.
const reading = 30 * time.Second

func (e *eventWriter) send(kind string, v any) { e.write(kind, v, false) }

// sendChanged sends what is not the same as the last of its kind.
func (e *eventWriter) sendChanged(kind string, v any) { e.write(kind, v, true) }

func (e *eventWriter) write(kind string, v any, changed bool) {
	data, err := json.Marshal(v)
	e.mu.Lock()
	defer e.mu.Unlock()
	if changed && slices.Equal(e.last[kind], data) {
		return
	}
	if changed {
		if e.last == nil {
			e.last = make(map[string][]byte)
		}
		e.last[kind] = data
	}
	if err == nil {
		control := http.NewResponseController(e.w)
		_ = control.SetWriteDeadline(time.Now().Add(reading)) // where it can be set
		if _, err = fmt.Fprintf(e.w, "event: %s\ndata: %s\n\n", kind, data); err == nil {
			err = control.Flush()
		}
	}
	if err != nil {
		e.cancel()
	}
}
