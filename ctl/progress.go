// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// callTimeout bounds all calls of the daemon but those of adopt and watch.
const callTimeout = 30 * time.Second

// call calls the daemon, and says so when the command waits long for the answer.
func call[T any](
	ctx context.Context, c *command, f func(context.Context) (T, error),
) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	defer c.showProgress(func() string { return "waiting for nsqueued to answer" })()
	return f(ctx)
}

// do is call for a function without a result.
func (c *command) do(ctx context.Context, f func(context.Context) error) error {
	_, err := call(ctx, c, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, f(ctx)
	})
	return err
}

// showProgress prints what the command is doing, again and again, from the time on
// that a command may work in silence. Nothing is printed after the returned
// function has ended.
func (c *command) showProgress(doing func() string) (stop func()) {
	if c.progressAfter == 0 {
		return func() {}
	}
	var mu sync.Mutex
	mu.Lock()
	defer mu.Unlock()
	stopped := false
	var again *time.Timer
	again = time.AfterFunc(c.progressAfter, func() {
		line := doing() // which may be a call, and is not waited for
		mu.Lock()
		defer mu.Unlock()
		if stopped {
			return
		}
		if line != "" {
			fmt.Fprintln(c.err, line)
		}
		again.Reset(c.progressAfter)
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		stopped = true
		again.Stop()
	}
}
