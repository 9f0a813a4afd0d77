// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nsqueue/nsqueue/daemon/internal/fault"
	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
	"github.com/nsqueue/nsqueue/daemon/internal/policy"
	"github.com/nsqueue/nsqueue/daemon/internal/registry"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
)

// await waits for the descriptors of another supervisor's daemon, which serves until
// this one is prepared. It does what can be done before, and what may fail: the hook
// that it returns is chosen. Where nothing is to come, it returns nil at once.
func (s *supervised) await(
	ctx context.Context, c *Config, rules *policy.Policy,
) (*choice, error) {
	if !s.Waits() {
		return nil, nil //nolint:nilnil // there is nothing to wait for
	}
	s.ahead = &registry.Ahead{}
	hook, err := s.prepare(c, rules)
	if err != nil {
		s.warn(s.Status(err.Error()))
		return nil, err
	}
	defer context.AfterFunc(ctx, s.StopWaiting)()
	s.log.Info("prepared: waiting for the queues of the daemon before this one")
	look := func(copies []fdstore.Descriptor) {
		if err := s.ahead.Look(copies, c.StateDir); err != nil { // and again when it counts
			s.log.Warn("cannot look at what the daemon before this one has",
				slog.Any("error", err))
		}
	}
	if err := s.Await(look); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	return hook, nil
}

// prepare does what needs no descriptor.
func (s *supervised) prepare(c *Config, rules *policy.Policy) (*choice, error) {
	if rules != nil {
		if r := rules.State(); r.Loaded == nil {
			return nil, fmt.Errorf("rules of %s: %s: the daemon that serves goes on",
				strings.Join(r.Directories, ", "), r.Problem)
		}
	}
	if err := s.ahead.Look(nil, c.StateDir); err != nil {
		return nil, err
	}
	return chooseHook(c)
}

// statePatience is how long the daemon of another supervisor may take to end.
const statePatience = 20 * time.Second

// openState waits for the end of a daemon that another supervisor had, if there is one.
// Where that supervisor may still take back what it has given, its next daemon needs the
// directory, whatever has become of this one by then.
func (s *supervised) openState(ctx context.Context, dir string) (*state.Store, error) {
	switch {
	case s.Contested():
		return state.OpenUnlocked(dir)
	case s.Shared():
		return state.OpenWithin(ctx, dir, statePatience)
	}
	return state.Open(dir)
}

// own makes all that this daemon has taken up its own for good, and the state directory
// with it. Its error is fdstore.ErrRevoked where another daemon goes on.
func (d *daemon) own(ctx context.Context) error {
	if err := d.super.Claim(); err != nil {
		return err
	}
	fault.At(fault.Claimed)
	if d.super.Contested() {
		err := d.store.Lock(ctx, statePatience)
		if errors.Is(err, state.ErrUnsaved) {
			d.log.Warn("some state files stay as the daemon before this one left them",
				slog.Any("error", err))
			err = nil
		}
		if err != nil {
			return err
		}
	}
	fault.At(fault.Owned)
	d.registry.Sweep()
	return nil
}
