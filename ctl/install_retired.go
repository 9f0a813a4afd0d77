// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/conflist"
)

// errRetired ends the watch of an installation that leaves the node.
var errRetired = errors.New("nsqueue leaves this node (nsqueued retire)")

// retiredEvery is how often install --watch looks whether it is to end.
const retiredEvery = time.Second

// untilRetired runs a watch until the installation leaves the node, which is errRetired.
func (c *command) untilRetired(
	ctx context.Context, runtimeDir string, watch func(context.Context) error,
) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var looking sync.WaitGroup
	looking.Go(func() {
		tick := time.NewTicker(retiredEvery)
		defer tick.Stop()
		for ctx.Err() == nil {
			if c.isRetired(ctx, runtimeDir) {
				cancel(errRetired)
				return
			}
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	})
	err := watch(ctx)
	if errors.Is(context.Cause(ctx), errRetired) {
		err = errRetired
	}
	cancel(nil)
	looking.Wait()
	return err
}

// isRetired asks the supervisor with a runtime directory, or where that is empty nsqueued.
// One that does not answer is not.
func (c *command) isRetired(ctx context.Context, runtimeDir string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if runtimeDir != "" {
		s, err := api.AskSupervisor(ctx, runtimeDir)
		return err == nil && s.Retired
	}
	s, err := c.client.Status(ctx)
	return err == nil && s.Retired
}

// watchUntilRetired is watchInstall, and gives its locks back when the installation leaves
// the node. In a container, which would be started again, it then waits for its end.
func (c *command) watchUntilRetired(ctx context.Context, i *conflist.Installer,
	plugin *pluginFile, f installFlags, lock *os.File,
) error {
	err := c.untilRetired(ctx, f.afterReady, func(ctx context.Context) error {
		return c.watchInstall(ctx, i, plugin, f)
	})
	if !errors.Is(err, errRetired) {
		return err
	}
	fmt.Fprintf(c.err, "%v: the watch ends\n", err)
	if f.afterReady != "" {
		_ = lock.Close()
		<-ctx.Done()
	}
	return nil
}
