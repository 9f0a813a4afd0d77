// SPDX-License-Identifier: Apache-2.0

//go:build netns

package registry_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// A pod that goes takes nothing with it of what was counted.
func TestTotalNeverGoesBack(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	pod, peer := nstest.Pair(t)
	for round := range uint64(3) {
		a := d.attach("one", pod, api.Ignore)
		if got := peer.Ping(t, pod.IPv4(), 2, reply); got != 2 {
			t.Errorf("%d of 2 replies", got)
		}
		want := 4 * (round + 1)
		if n := d.Total(); n.Packets != want || n.Accepted != want {
			t.Errorf("round %d: attached, total %+v, want %d packets", round, n, want)
		}
		nstest.Must(t, d.Detach(t.Context(), a.Key))
		if n := d.Total(); n.Packets != want || n.Accepted != want {
			t.Errorf("round %d: detached, total %+v, want %d packets", round, n, want)
		}
	}
}

// timings counts what it is told.
type timings struct {
	mu                 sync.Mutex
	attached, detached []error
}

func (c *timings) Attached(took time.Duration, err error) { c.add(&c.attached, took, err) }
func (c *timings) Detached(took time.Duration, err error) { c.add(&c.detached, took, err) }

func (c *timings) add(to *[]error, took time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if took > 0 {
		*to = append(*to, err)
	}
}

func TestTimings(t *testing.T) {
	var told timings
	d := start(t, inspect.AcceptAll{})
	d.timings = &told
	d.restart()
	pod, _ := nstest.Pair(t)
	a := d.attach("one", pod, api.Ignore)
	d.attach("one", pod, api.Ignore) // is there: nothing that took time
	nstest.Must(t, d.Detach(t.Context(), a.Key))
	nstest.Must(t, d.Detach(t.Context(), a.Key))
	d.fallback, d.hook = nil, &brokenHook{Hook: d.hook, open: errors.New("broken")}
	d.restart()
	if _, err := d.Attach(t.Context(), request("two", pod, api.Fail), nil); err == nil {
		t.Error("attached by a broken hook")
	}
	told.mu.Lock()
	defer told.mu.Unlock()
	if len(told.attached) != 2 || told.attached[0] != nil || told.attached[1] == nil {
		t.Errorf("attached %v, want one success and one failure", told.attached)
	}
	if len(told.detached) != 1 || told.detached[0] != nil {
		t.Errorf("detached %v, want one success", told.detached)
	}
}

// What waits and what found no room is found out when a queue is verified, and
// is counted once, also by a daemon that takes the queue over.
func TestQueueTotals(t *testing.T) {
	held := make(chan struct{}, 1)
	release := make(chan struct{})
	var free sync.Once
	d := start(t, inspect.Func(func(*inspect.Packet) inspect.Verdict {
		select {
		case held <- struct{}{}:
		default:
		}
		<-release
		return inspect.Verdict{Action: inspect.Accept}
	}))
	t.Cleanup(func() { free.Do(func() { close(release) }) })
	d.length = 2
	d.restart()
	pod, peer := nstest.Pair(t)
	d.attach("one", pod, api.Fail)
	d.Verify(t.Context())
	if q := d.Queues(); q.Waiting != 0 || q.Fullest != 0 || q.QueueFull != 0 {
		t.Errorf("idle: %+v", q)
	}
	sink := pod.ListenUDP(t, pod.IPv4().String()+":9")
	defer sink.Close()
	c := peer.DialUDP(t, pod.IPv4().String()+":9")
	defer c.Close()
	for range 5 {
		_, err := c.Write([]byte("x"))
		nstest.Must(t, err)
	}
	<-held
	for range 2 { // the second time nothing is new
		d.Verify(t.Context())
		if q := d.Queues(); q.Waiting != 2 || q.Fullest != 1 || q.QueueFull != 3 {
			t.Errorf("full: %+v", q)
		}
	}
	d.wantEvent(api.EventOverload, "the queue is full: packets that come now are dropped")
	if n := d.EventCounts()[api.EventOverload]; n != 1 {
		t.Errorf("a full queue was told of %d times", n)
	}
	free.Do(func() { close(release) })
	nstest.Eventually(t, reply, "the queue empties", func() bool {
		d.Verify(t.Context())
		return d.Queues().Waiting == 0
	})
	if q := d.Queues(); q.QueueFull != 3 {
		t.Errorf("empty: %+v", q)
	}
}
