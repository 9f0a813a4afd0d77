// SPDX-License-Identifier: Apache-2.0

package nri

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// work is what a call of the runtime asks for.
type work struct {
	payload []byte // of the answer
	do      func() // before the answer; nil for nothing
	then    func() // after it; nil for nothing
	starts  bool   // a pod, which waits for do
	limit   time.Duration
}

var (
	errUnknown  = errors.New("the plugin has no such method")
	errTooMany  = fmt.Errorf("%w: more than %d pods", errMessage, mostPods)
	errNameless = fmt.Errorf("%w: a pod without ID", errMessage)
)

// mostPods is far more than a node can have.
const mostPods = 100_000

// begin reads a call. It keeps nothing of the call's bytes.
func (s *session) begin(c *call) (*work, error) {
	if c.service != pluginService {
		return nil, errUnknown
	}
	switch c.method {
	case configureMethod:
		return s.configure(c)
	case synchronizeMethod:
		return s.synchronize(c)
	case runMethod, removeMethod, eventMethod:
		return s.event(c)
	case shutdownMethod:
		return &work{}, nil
	}
	return nil, errUnknown
}

func (s *session) configure(c *call) (*work, error) {
	var err error
	s.config, err = parseConfiguration(c.payload)
	return &work{payload: appendNumber(nil, 2, wanted)}, err
}

// synchronize takes pods, and hands them on with the last of the calls.
func (s *session) synchronize(c *call) (*work, error) {
	pods, more, err := parsePods(c.payload)
	if err != nil {
		return nil, err
	}
	s.pods = append(s.pods, pods...)
	if len(s.pods) > mostPods {
		s.pods = nil
		return nil, errTooMany
	}
	if more {
		return &work{payload: appendNumber(nil, 2, 1)}, nil
	}
	all, config := s.pods, s.config
	s.pods = nil
	return &work{
		limit: s.limit(),
		do:    func() { s.plugin.handler.Synchronize(all) },
		then: func() {
			s.connected.Store(true)
			_ = s.conn.SetReadDeadline(time.Time{}) // else it ends, and is made again
			s.plugin.connected(&config)
		},
	}, nil
}

func (s *session) event(c *call) (*work, error) {
	event, pod, err := parseEvent(c.payload)
	switch {
	case err != nil:
		return nil, err
	case c.method == runMethod:
		event = runEvent
	case c.method == removeMethod:
		event = removeEvent
	}
	if (event == runEvent || event == removeEvent) && pod.ID == "" {
		return nil, errNameless
	}
	switch event {
	case runEvent:
		do := func() { s.plugin.handler.Run(pod) }
		return &work{do: do, starts: true, limit: s.limit()}, nil
	case removeEvent:
		do := func() { s.plugin.handler.Removed(pod.ID) }
		return &work{do: do, limit: s.limit()}, nil
	}
	return &work{}, nil
}

// await does the work, and returns when it is done, or when the runtime would take the
// plugin for dead. The work then goes on.
func (w *work) await(ctx context.Context, p *Plugin) {
	if w.do == nil {
		return
	}
	done := make(chan struct{})
	p.working.Go(func() {
		defer close(done)
		w.do()
	})
	late := true
	select {
	case <-done:
		late = false
	case <-time.After(w.limit):
	case <-ctx.Done():
	}
	if w.starts {
		p.started(late)
	}
}

// limit is how long a call may be at work.
func (s *session) limit() time.Duration {
	limit := time.Duration(s.config.limit) * time.Millisecond
	if s.config.limit == 0 || s.config.limit > uint64(time.Hour/time.Millisecond) {
		limit = defaultLimit
	}
	return limit * 3 / 4
}
