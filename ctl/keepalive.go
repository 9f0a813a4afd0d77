// SPDX-License-Identifier: Apache-2.0

package main

import (
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
// sees that the command is there; and once there is no reader, writing ends the program.
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
