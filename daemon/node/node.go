// SPDX-License-Identifier: Apache-2.0

// Package node is the node daemon as a library. A program that brings its own
// inspector is an nsqueued of its own:
//
//	func main() {
//		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
//		defer stop()
//		if err := node.Run(ctx, node.DefaultConfig(), myInspector{}); err != nil {
//			log.Fatal(err)
//		}
//	}
package node

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/daemon/internal/registry"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
)

// Run serves until ctx ends and returns when everything it started has
// stopped. It logs to standard error. Only one Run per state directory may be
// active.
func Run(ctx context.Context, c Config, inspector inspect.Inspector) error {
	if err := c.Validate(); err != nil {
		return err
	}
	level, err := c.logLevel()
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	h, err := chooseHook(c.Hook, c.KmodPath)
	if err != nil {
		return err
	}
	chosen := h.status()
	log.Info("hook chosen", slog.String("hook", chosen.Kind),
		slog.String("detail", chosen.Detail), slog.String("reason", chosen.Reason))
	store, err := state.Open(c.StateDir)
	if err != nil {
		return err
	}
	defer store.Close()
	reg, err := newRegistry(&c, h, store, inspector, log)
	if err != nil {
		return err
	}
	return errors.Join(serve(ctx, &c, reg, inspector, chosen, log), reg.Close())
}

// serve listens before it restores, so that a second daemon on the same socket
// touches nothing; calls are answered after.
func serve(
	ctx context.Context, c *Config, reg *registry.Registry, inspector inspect.Inspector,
	h api.HookStatus, log *slog.Logger,
) error {
	l, err := api.Listen(c.Socket)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := reg.Restore(ctx); err != nil {
		return err
	}
	var guards sync.WaitGroup
	defer guards.Wait()
	guarding, stop := context.WithCancel(ctx)
	defer stop()
	guards.Go(func() { reg.Guard(guarding) })
	guards.Go(func() { reg.Watchdog(guarding) })
	guards.Go(func() { followChanges(guarding, inspector, reg, log) })
	b := &backend{
		Registry: reg, adopter: newAdopter(c, reg, log), stopping: guarding,
		config: c, hook: h, started: time.Now().UTC(),
	}
	var existing sync.WaitGroup
	if c.Adopt.Existing {
		existing.Go(b.adoptExisting)
	}
	log.Info("serving", slog.String("socket", c.Socket), slog.String("version", api.Version()),
		slog.String("failurePolicy", string(c.FailurePolicy)))
	err = api.Serve(ctx, l, b, log)
	stop()
	existing.Wait()
	return errors.Join(err, reg.Suspend())
}

func newRegistry(
	c *Config, h *choice, store *state.Store, inspector inspect.Inspector, log *slog.Logger,
) (*registry.Registry, error) {
	directions, err := c.directions()
	if err != nil {
		return nil, err
	}
	protocols, err := c.protocols()
	if err != nil {
		return nil, err
	}
	needs := needsOf(inspector)
	queue := c.Queue.nfqueue()
	queue.Modifies = needs.Modifies
	switch {
	case needs.Modifies: // what replaces a packet replaces all of it
		queue.CopyRange = nfqueue.MaxCopyRange
	case needs.CopyRange > 0:
		queue.CopyRange = min(needs.CopyRange, nfqueue.MaxCopyRange)
	}
	return registry.New(registry.Options{
		Hook: h.hook, Fallback: h.fallback, Inspector: inspector, Store: store, Log: log,
		FailurePolicy: c.FailurePolicy, Queue: queue, Queues: c.Queue.Count,
		BufferTotal: c.Queue.ReceiveBufferTotal, Budget: time.Duration(c.InspectBudget),
		Settle:      c.settle(needs.Settles || c.SettleAfterPackets > 0),
		SettleAfter: c.SettleAfterPackets,
		Directions:  directions, Protocols: protocols, MarkMask: c.MarkMask,
	})
}

// needsOf returns what the inspector declares.
func needsOf(i inspect.Inspector) inspect.Needs {
	if d, ok := i.(inspect.Declarer); ok {
		return d.Needs()
	}
	return inspect.Needs{}
}

// followChanges has settled flows looked at again whenever the inspector says
// that it would decide otherwise by now.
func followChanges(
	ctx context.Context, i inspect.Inspector, reg *registry.Registry, log *slog.Logger,
) {
	c, ok := i.(inspect.Changer)
	if !ok {
		return
	}
	changes := c.Changes()
	for {
		select {
		case <-ctx.Done():
			return
		case _, open := <-changes:
			if !open {
				return
			}
			if err := reg.Unsettle(); err != nil {
				log.Error("settled flows not released", slog.Any("error", err))
			}
		}
	}
}

// backend is the registry and what the API tells of the daemon around it.
type backend struct {
	*registry.Registry

	adopter *adopter
	// stopping ends when the daemon stops.
	stopping context.Context
	config   *Config
	hook     api.HookStatus
	started  time.Time
}

// Attach makes the attachment.
func (b *backend) Attach(
	ctx context.Context, req api.AttachRequest, netns *os.File,
) (api.Attachment, error) {
	b.adopter.attaching(req.Key)
	return b.Registry.Attach(ctx, req, netns)
}

// Detach ends the attachment.
func (b *backend) Detach(ctx context.Context, key api.Key) error {
	b.adopter.detaching(key)
	return b.Registry.Detach(ctx, key)
}

// DetachAll ends all attachments.
func (b *backend) DetachAll(ctx context.Context) (int, error) {
	b.adopter.detachingAll()
	return b.Registry.DetachAll(ctx)
}

// Adopt attaches pods that are older than the daemon. It ends early when the
// daemon stops.
func (b *backend) Adopt(ctx context.Context, req api.AdoptRequest) (api.AdoptResults, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(b.stopping, cancel)()
	return b.adopter.Adopt(ctx, req)
}

// adoptExisting does so unasked.
func (b *backend) adoptExisting() {
	if _, err := b.adopter.Adopt(b.stopping, api.AdoptRequest{}); err != nil {
		b.adopter.log.Error("existing pods not looked for", slog.Any("error", err))
	}
}

// Status describes the daemon.
func (b *backend) Status(ctx context.Context) (api.Status, error) {
	list, err := b.List(ctx)
	if err != nil {
		return api.Status{}, err
	}
	s := api.Status{
		Version: api.Version(), PID: os.Getpid(), Started: b.started,
		StateDir: b.config.StateDir, FailurePolicy: b.config.FailurePolicy,
		Hook: b.hook, Attachments: len(list),
		Counters: b.Total(),
	}
	return s, nil
}
