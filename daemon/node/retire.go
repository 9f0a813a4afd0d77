// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/calls"
	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
	"github.com/nsqueue/nsqueue/daemon/internal/registry"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
	"github.com/nsqueue/nsqueue/internal/spool"
)

// retire ends all inspection at once where the installation was told to leave the node
// while an earlier daemon served.
func (d *daemon) retire(ctx context.Context) {
	retired, err := d.super.Retired()
	if err != nil {
		d.log.Error("cannot see whether this installation leaves the node; going on",
			slog.Any("error", err))
	}
	if !retired {
		return
	}
	n, err := d.registry.Retire(ctx)
	if err != nil {
		d.log.Error("cannot end all inspection; trying again", slog.Any("error", err))
	}
	d.log.Info("serving nobody: nsqueue leaves this node", slog.Int("detached", n))
}

// tidy removes the daemon's files from a node that nsqueue leaves. Where another daemon
// follows this one, they are that one's.
func (d *daemon) tidy() {
	if d.registry.Retired() && !d.super.Keeps() {
		removeFiles(d.config)
	}
}

// removeFiles removes the files of a daemon that has ended. Directories stay: another
// daemon may have opened them.
func removeFiles(c *Config) {
	for _, path := range []string{
		c.Socket, api.ObserverSocket(c.Socket),
		filepath.Join(c.StateDir, state.Directory, state.Orderly),
	} {
		_ = os.Remove(path) // it may not be there
	}
}

// retireAlone is for how long Retire waits for a daemon that is about to end.
const retireAlone = 5 * time.Second

// Retire takes up what a daemon that runs no more has left on this node, and removes it:
// hooks, records and undelivered calls. No packet is lost that comes meanwhile. It returns
// how many pods were detached.
//
// Where nsqueued runs, ask that instead (see [api.Client.Retire]).
func Retire(ctx context.Context, c Config) (int, error) {
	if err := c.Validate(); err != nil {
		return 0, err
	}
	log, _ := newLog(os.Stderr, c.LogFormat, c.LogLevel)
	store, err := state.OpenWithin(ctx, c.StateDir, retireAlone)
	if err != nil {
		return 0, err
	}
	defer store.Close()
	var none *outside // so that programs of pods end
	kept, err := none.keepPrograms(&c, log)
	if err != nil {
		return 0, err
	}
	reg, err := newRegistry(&c, store, &fdstore.Store{}, inspect.AcceptAll{}, nil, nil, kept,
		none, log)
	if err != nil {
		return 0, err
	}
	n, err := retireAll(ctx, &c, reg, log)
	if err = errors.Join(err, reg.Close()); err == nil {
		removeFiles(&c)
	}
	return n, err
}

// retireAll restores what there was and detaches it.
func retireAll(
	ctx context.Context, c *Config, reg *registry.Registry, log *slog.Logger,
) (int, error) {
	past, err := reg.Inherit(nil, nil)
	if err != nil {
		return 0, err
	}
	hooks := registry.Hooks{}
	if past.Len() > 0 {
		h, err := chooseHook(c)
		if err != nil {
			return 0, err
		}
		hooks = registry.Hooks{Hook: h.hook, Fallback: h.fallback}
	}
	reg.Restore(ctx, past, hooks)
	reg.Sweep()
	n, err := reg.Retire(ctx)
	voided := announced{registry: reg, adopter: newAdopter(c, reg, log)}
	return n, errors.Join(err, calls.New(spool.Path(c.Socket), voided, log).Replay(ctx))
}
