// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"sync"
)

// group is goroutines that end together.
type group struct {
	// ctx ends when the group is to end.
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
}

func newGroup(ctx context.Context) *group {
	ctx, cancel := context.WithCancel(ctx)
	return &group{ctx: ctx, cancel: cancel}
}

// add starts a goroutine, which returns when its context ends.
func (g *group) add(run func(context.Context)) { g.running.Go(func() { run(g.ctx) }) }

// close ends the goroutines and waits for them. A second call does nothing.
func (g *group) close() {
	g.cancel()
	g.running.Wait()
}
