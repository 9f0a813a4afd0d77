// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

// leastKeepalive keeps empty lines from costing much.
const leastKeepalive = 100 * time.Millisecond

const keepaliveHelp = "print an empty line to standard error now and each\n`TIME`, for a " +
	"program far away (default: never)"

func checkKeepalive(every time.Duration) error {
	if every != 0 && every < leastKeepalive {
		return usageErrorf("keepalive %s: want 0 or at least %s", every, leastKeepalive)
	}
	return nil
}

// keepAlive prints empty lines until the returned function is called. Whoever reads them
// sees that the command is there.
func (s *IOStreams) keepAlive(every time.Duration) (stop func()) {
	if every == 0 {
		return func() {}
	}
	fmt.Fprintln(s.err)
	tick, done := time.NewTicker(every), make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				fmt.Fprintln(s.err)
			}
		}
	})
	return func() {
		tick.Stop()
		close(done)
		writing.Wait()
	}
}

// untilEnd returns a context that ends with standard input. Who has started the command far
// away is gone then: not every runtime ends what it has started for a client, nor the pipe
// that it writes to.
func (s *IOStreams) untilEnd(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, s.in) // an error is the end as well
		cancel()
	}()
	return ctx, cancel
}

// lockedWriter is for several goroutines.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
