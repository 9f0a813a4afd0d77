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
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/calls"
	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
	"github.com/nsqueue/nsqueue/daemon/internal/metrics"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/daemon/internal/registry"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
	"github.com/nsqueue/nsqueue/internal/spool"
)

// Run serves until ctx ends and returns when everything it started has
// stopped. It logs to standard error. Only one Run per state directory may be
// active.
//
// Where systemd or `nsqueued supervise` has started the process and keeps its
// descriptors, what waits in the queues waits for the next Run, whether this
// one ends in order or not.
func Run(ctx context.Context, c Config, inspector inspect.Inspector) error {
	if err := c.Validate(); err != nil {
		return err
	}
	log, level := newLog(os.Stderr, c.LogFormat, c.LogLevel)
	fds, err := fdstore.FromEnvironment(fdstore.ProcessEnvironment())
	if err != nil {
		return err
	}
	defer fds.Close()
	store, err := state.Open(c.StateDir)
	if err != nil {
		return err
	}
	defer store.Close()
	shown := metrics.New()
	reg, err := newRegistry(&c, store, fds, inspector, shown, log)
	if err != nil {
		return err
	}
	d := &daemon{
		config: &c, registry: reg, inspector: inspector, log: log, level: level,
		super: &supervised{Store: fds, log: log}, metrics: shown,
	}
	return errors.Join(d.serve(ctx), reg.Close())
}

// daemon is what one Run consists of.
type daemon struct {
	config    *Config
	registry  *registry.Registry
	inspector inspect.Inspector
	super     *supervised
	metrics   *metrics.Metrics
	log       *slog.Logger
	level     *slog.LevelVar
}

// serve listens before it restores, so that a second daemon on the same socket
// touches nothing; calls are answered after.
func (d *daemon) serve(ctx context.Context) error {
	var helpers sync.WaitGroup
	defer helpers.Wait()
	helping, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop() // when all else has ended
	l, err := d.super.listen(d.config.Socket)
	if err != nil {
		return err
	}
	defer l.Close()
	helpers.Go(func() { d.super.feed(helping, func() { d.registry.Total() }) })
	helpers.Go(func() { d.registry.Watchdog(helping) })
	hook, err := d.takeUp(ctx)
	if err != nil {
		return err
	}
	announced := announced{
		Registry: d.registry, adopter: newAdopter(d.config, d.registry, d.log),
	}
	sequencer := calls.New(spool.Path(d.config.Socket), announced, d.log)
	if err := sequencer.Replay(ctx); err != nil {
		d.log.Error("spool not drained", slog.Any("error", err)) // Run goes on
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	var guards sync.WaitGroup
	guards.Go(func() { sequencer.Run(ctx) })
	guards.Go(func() { d.registry.Fallback(ctx) })
	guards.Go(func() { d.registry.Reconcile(ctx) })
	guards.Go(func() { followChanges(ctx, d.inspector, d.registry, d.log) })
	b := d.backend(ctx, announced, sequencer, hook)
	o := observers{stopping: ctx, observed: b, serving: &guards, log: d.log}
	o.start(d.config)
	d.log.Info("serving", slog.String("socket", d.config.Socket),
		slog.String("version", api.Version()),
		slog.String("failurePolicy", string(d.config.FailurePolicy)))
	d.super.ready(d.registry.Count())
	if d.config.Adopt.Existing {
		guards.Go(b.adoptExisting)
	}
	err = api.Serve(ctx, l, b, d.log)
	d.super.stopping()
	end() // also where serving has failed
	guards.Wait()
	return errors.Join(err, d.registry.Suspend())
}

// backend returns what answers calls until ctx ends.
func (d *daemon) backend(
	ctx context.Context, a announced, sequencer *calls.Sequencer, hook api.HookStatus,
) *backend {
	b := &backend{
		announced: a, sequencer: sequencer, stopping: ctx,
		config: d.config, hook: hook, started: time.Now().UTC(),
		supervisor: supervisorStatus(d.super.Supervisor()), stored: d.super.Usage,
		level: d.level, log: d.log,
	}
	b.scrape = d.expose(b)
	return b
}

// takeUp goes on where the daemon before this one ended, and returns the hook
// by which it does. Finding out what the kernel has takes longer than packets
// should wait, so that their queues are read first.
func (d *daemon) takeUp(ctx context.Context) (api.HookStatus, error) {
	past, err := d.registry.Inherit(d.super.Inherited())
	if err != nil {
		return api.HookStatus{}, err
	}
	h, err := chooseHook(d.config.Hook, d.config.KmodPath)
	if err != nil {
		return api.HookStatus{}, err
	}
	chosen := h.status()
	d.log.Info("hook chosen", slog.String("hook", chosen.Kind),
		slog.String("detail", chosen.Detail), slog.String("reason", chosen.Reason))
	d.registry.Restore(ctx, past, registry.Hooks{Hook: h.hook, Fallback: h.fallback})
	return chosen, nil
}

func newRegistry(
	c *Config, store *state.Store, fds *fdstore.Store,
	inspector inspect.Inspector, timings registry.Timings, log *slog.Logger,
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
	settling, err := canSettle(c, needs)
	if err != nil {
		return nil, err
	}
	queue := c.Queue.nfqueue()
	queue.Modifies = needs.Modifies
	switch {
	case needs.Modifies: // what replaces a packet replaces all of it
		queue.CopyRange = nfqueue.MaxCopyRange
	case needs.CopyRange > 0:
		queue.CopyRange = min(needs.CopyRange, nfqueue.MaxCopyRange)
	}
	return registry.New(registry.Options{
		Inspector: inspector, Log: log,
		Store: store, Descriptors: fds,
		FailurePolicy: c.FailurePolicy, Queue: queue, Queues: c.Queue.Count,
		BufferTotal: c.Queue.ReceiveBufferTotal, Budget: time.Duration(c.InspectBudget),
		Coalesce:    time.Duration(c.Queue.Coalesce),
		Settle:      c.settle(settling),
		SettleAfter: c.SettleAfterPackets, Timings: timings,
		Directions: directions, Protocols: protocols, MarkMask: c.MarkMask,
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

// announced are the registry's calls about attachments. The adopter is told of them
// before.
type announced struct {
	*registry.Registry

	adopter *adopter
}

// AttachCalled makes the attachment that was called for at a time since boot.
func (c announced) AttachCalled(
	ctx context.Context, req api.AttachRequest, netns *os.File, called time.Duration,
) (api.Attachment, error) {
	c.adopter.attaching(req.Key)
	return c.Registry.AttachCalled(ctx, req, netns, called)
}

// DetachOlder ends an attachment that was called for before a time since boot.
func (c announced) DetachOlder(
	ctx context.Context, req api.DetachRequest, called time.Duration,
) error {
	c.adopter.detaching(req.Key)
	return c.Registry.DetachOlder(ctx, req, called)
}

// DetachAll ends all attachments.
func (c announced) DetachAll(ctx context.Context) (int, error) {
	c.adopter.detachingAll()
	return c.Registry.DetachAll(ctx)
}

// backend is the registry and what the API tells of the daemon around it.
type backend struct {
	announced

	sequencer *calls.Sequencer
	// stopping ends when the daemon stops.
	stopping   context.Context
	config     *Config
	hook       api.HookStatus
	supervisor api.Supervisor
	// stored tells what the supervisor keeps.
	stored  func() (n, capacity int)
	started time.Time
	scrape  http.Handler // answers scrapes
	level   *slog.LevelVar
	log     *slog.Logger
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

// Attach makes the attachment, in its turn with what is spooled.
func (b *backend) Attach(
	ctx context.Context, req api.AttachRequest, netns *os.File,
) (api.Attachment, error) {
	return b.sequencer.Attach(ctx, req, netns)
}

// Detach ends the attachment, in its turn with what is spooled.
func (b *backend) Detach(ctx context.Context, req api.DetachRequest) error {
	return b.sequencer.Detach(ctx, req)
}

// Check looks at the attachment as it is after what is spooled.
func (b *backend) Check(ctx context.Context, key api.Key) error {
	b.sequencer.ReplayKey(ctx, key)
	return b.Registry.Check(ctx, key)
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
		Supervisor: b.supervisor, Hook: b.hook, Attachments: len(list),
		Counters: b.Total(), Orphans: b.Orphans(), Problems: b.Problems(),
		Doubts: b.Doubts(),
	}
	s.Supervisor.Stored, s.Supervisor.Capacity = b.stored()
	if s.Descriptors, err = b.Descriptors(); err != nil { // at the limit itself, perhaps
		b.log.Warn("descriptors not counted", slog.Any("error", err))
	}
	if s.Buffers, err = b.Buffers(); err != nil {
		b.log.Warn("receive buffers not measured", slog.Any("error", err))
	}
	if s.Spooled, err = b.sequencer.Count(); err != nil {
		b.log.Warn("spool not counted", slog.Any("error", err))
	}
	return s, nil
}
