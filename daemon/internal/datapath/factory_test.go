// SPDX-License-Identifier: Apache-2.0

//go:build netns

package datapath

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// A hanging inspector costs its batch, and another goroutine goes on.
func TestWatchdogSupersedes(t *testing.T) {
	release := make(chan struct{})
	var first sync.Once
	n := start(t, inspect.Func(func(*inspect.Packet) inspect.Verdict {
		hangs := false
		first.Do(func() { hangs = true })
		if hangs {
			<-release
		}
		return inspect.Verdict{Action: inspect.Accept}
	}), func(n *node) {
		n.options.Budget = 50 * time.Millisecond
		n.selector.Bypass = true
	})
	ctx, cancel := context.WithCancel(t.Context())
	var watchdog sync.WaitGroup
	watchdog.Go(func() { n.Watchdog(ctx) })
	pod, peer := nstest.Pair(t)
	d := n.up(pod)
	wantReplies(t, peer, pod, 3)
	cancel()
	watchdog.Wait()
	close(release)
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := d.Counters(); c.Overruns != 1 || n.overruns != 1 {
		t.Errorf("%d overruns counted, told of %d, want 1", c.Overruns, n.overruns)
	}
	nstest.Must(t, d.Down(false))
}

// Without a budget nothing is watched.
func TestNoWatchdog(t *testing.T) {
	start(t, inspect.AcceptAll{}, nil).Watchdog(t.Context())
}

// The memory of receive buffers is shared among all queues of the node.
func TestBuffers(t *testing.T) {
	n := start(t, inspect.AcceptAll{}, func(n *node) {
		n.options.BufferTotal = 3 * nfqueue.DefaultReceiveBuffer
		n.selector.Queues = 2
	})
	a, b := nstest.New(t), nstest.New(t)
	want := BufferStatus{
		Wanted: nfqueue.DefaultReceiveBuffer, Each: nfqueue.DefaultReceiveBuffer,
		Total:    3 * nfqueue.DefaultReceiveBuffer,
		Possible: nfqueue.DefaultReceiveBuffer,
	}
	check := func(queues, each int) {
		t.Helper()
		want.Queues, want.Each, want.Possible = queues, each, each
		if got, err := n.Buffers(); err != nil || got != want {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	}
	check(0, nfqueue.DefaultReceiveBuffer)
	first := n.up(a)
	check(2, nfqueue.DefaultReceiveBuffer)
	second := n.up(b)
	check(4, nfqueue.DefaultReceiveBuffer/2)
	nstest.Must(t, second.Down(false))
	check(2, nfqueue.DefaultReceiveBuffer)
	nstest.Must(t, first.Down(false))
	for ended := n.Closing(); ended != nil; ended = n.Closing() {
		<-ended
	}
}
