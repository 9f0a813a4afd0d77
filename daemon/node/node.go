// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/calls"
	"github.com/nsqueue/nsqueue/daemon/internal/fault"
	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
	"github.com/nsqueue/nsqueue/daemon/internal/metrics"
	"github.com/nsqueue/nsqueue/daemon/internal/policy"
	"github.com/nsqueue/nsqueue/daemon/internal/registry"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
)

// Run serves until ctx ends and returns when everything it started has
// stopped. It logs to standard error. Only one Run per state directory may be
// active.
//
// Where systemd or `nsqueued supervise` has started the process and keeps its
// descriptors, what waits in the queues waits for the next Run, whether this
// one ends in order or not.
//
// Where [EnvCheck] asks for it, Run checks instead, and changes nothing.
func Run(ctx context.Context, c Config, inspector inspect.Inspector) (err error) {
	if format := os.Getenv(EnvCheck); format != "" {
		return checkInstead(&c, inspector, format)
	}
	if err := c.Validate(); err != nil {
		return err
	}
	defer addProcessor()()
	log, level := newLog(os.Stderr, c.LogFormat, c.LogLevel)
	fds, err := fdstore.FromEnvironment(fdstore.ProcessEnvironment())
	if err != nil {
		return err
	}
	defer fds.Close()
	hangups, release := catchHangups(&c)
	defer release()
	c.moveQueues()
	outside, err := newOutside(&c, inspector)
	if err != nil {
		return err
	}
	life, end := context.WithCancel(ctx) // of what changes rules
	defer end()
	labels := newLabeler(life, &c, log)
	rules, err := newPolicy(life, &c, inspector, outside, labels.Known, log)
	if err != nil {
		return err
	}
	if rules != nil {
		inspector = rules.Inspector()
		defer func() { err = errors.Join(err, endPolicy(rules)) }()
		rules.Follow() // what comes before the workers start waits for them
		telling := newGroup(life)
		defer telling.close()
		defer end() // nobody follows changes by then
		telling.add(func(ctx context.Context) { labels.run(ctx, rules) })
	}
	if outside != nil {
		inspector = outside.route(rules)
	}
	super := &supervised{Store: fds, log: log}
	hook, err := super.await(ctx, &c, rules)
	if err != nil {
		return err
	}
	store, err := super.openState(ctx, c.StateDir)
	if err != nil {
		return err
	}
	defer store.Close()
	shown := metrics.New()
	kept, err := outside.keepPrograms(&c, log)
	if err != nil {
		return err
	}
	reg, err := newRegistry(&c, store, fds, inspector, labels.Of, shown, kept,
		outside, log)
	if err != nil {
		return err
	}
	if rules != nil {
		rules.ReportTo(reg)
	}
	outside.reportTo(reg)
	d := &daemon{
		config: &c, registry: reg, policy: rules, inspector: inspector, log: log, level: level,
		super: super, store: store, metrics: shown, hangups: hangups, hook: hook, outside: outside,
		labels: labels, end: end,
	}
	return errors.Join(d.serve(ctx), reg.Close())
}

// daemon is what one Run consists of.
type daemon struct {
	config    *Config
	registry  *registry.Registry
	inspector inspect.Inspector
	policy    *policy.Policy // nil: no rules
	outside   *outside       // nil: no inspectors outside
	labels    *labeler       // of use with rules only
	end       func()         // of what changes rules
	super     *supervised
	store     *state.Store
	metrics   *metrics.Metrics
	hangups   <-chan os.Signal // nil: no rules
	hook      *choice          // nil: not chosen so far
	log       *slog.Logger
	level     *slog.LevelVar
}

// serve runs the daemon from the first socket to the last, in this order:
//
//  1. Listen. A second daemon on the same socket fails here and has touched
//     nothing. Calls wait in the socket until step 6.
//  2. Start the watchdogs: the supervisor's, which wants signs of life, and the
//     registry's, which looks after inspectors. They outlive all else.
//  3. Take the pods up where the daemon before this one left them, and make them this
//     daemon's for good: another supervisor could take them back so far, so that nothing
//     was changed that its daemon needs. Where nsqueue leaves the node, end the pods'
//     inspection.
//  4. Replay the calls that it missed, before any new call.
//  5. Start the workers: what looks after pods, and serves observers.
//  6. Answer calls, and adopt older pods meanwhile, until ctx ends or serving
//     fails.
//  7. Tell the supervisor, and stop the workers.
//  8. Suspend the attachments: no worker changes them any more.
//  9. Stop the watchdogs.
func (d *daemon) serve(ctx context.Context) error {
	l, err := d.super.listen(d.config.Socket) // 1
	if err != nil {
		return err
	}
	defer l.Close()
	watchdogs := newGroup(context.WithoutCancel(ctx)) // 2
	defer watchdogs.close()                           // 9
	watchdogs.add(d.feedSupervisor)
	watchdogs.add(d.registry.Watchdog)
	hook, err := d.takeUp(ctx) // 3
	if err == nil {
		err = d.own(ctx)
	}
	if err != nil && d.super.Contested() { // another daemon goes on
		err = errors.Join(err, d.registry.Suspend())
	}
	if err != nil {
		return err
	}
	d.retire(ctx)
	workers := newGroup(ctx)
	defer workers.close()
	b := d.newBackend(workers.ctx, hook)
	d.replay(ctx, b.sequencer) // 4
	d.startWorkers(workers, b) // 5
	d.log.Info("serving", slog.String("socket", d.config.Socket),
		slog.String("version", api.Version()),
		slog.String("failurePolicy", string(d.config.FailurePolicy)))
	d.super.ready(d.registry.Count())
	if d.config.Adopt.Existing && !d.registry.Retired() {
		workers.add(b.adoptExisting)
	}
	err = api.Serve(workers.ctx, l, b, d.log) // 6
	d.super.stopping()                        // 7
	d.end()                                   // workers may wait for each other's changes
	workers.close()
	err = errors.Join(err, d.registry.Suspend()) // 8
	d.tidy()
	return err
}

// feedSupervisor tells the supervisor's watchdog that the daemon lives, as long
// as its registry answers.
func (d *daemon) feedSupervisor(ctx context.Context) {
	d.super.feed(ctx, func() { d.registry.Total() })
}

// replay carries out what is spooled. What fails is tried again by a worker.
func (d *daemon) replay(ctx context.Context, s *calls.Sequencer) {
	if err := s.Replay(ctx); err != nil {
		d.log.Error("cannot carry out spooled calls; trying again", slog.Any("error", err))
	}
}

// startWorkers starts what works beside the calls until the daemon stops.
func (d *daemon) startWorkers(workers *group, b *backend) {
	workers.add(b.sequencer.Run)
	workers.add(d.registry.Fallback)
	workers.add(d.registry.Reconcile)
	workers.add(d.followChanges)
	workers.add(d.followAttachmentChanges)
	if d.policy != nil {
		workers.add(d.policy.Run)
		workers.add(d.followHangups)
		workers.add(func(ctx context.Context) { d.labels.serve(ctx, d.registry) })
	}
	if d.outside != nil {
		d.outside.start(workers)
	}
	o := observers{observed: b, serving: workers, log: d.log}
	o.start(d.config)
}

// takeUp goes on where the daemon before this one ended, and returns the hook
// by which it does. Finding out what the kernel has takes longer than packets
// should wait, so that their queues are read first.
func (d *daemon) takeUp(ctx context.Context) (api.HookStatus, error) {
	fault.At(fault.Came)
	past, err := d.registry.Inherit(d.super.Inherited(), d.super.ahead)
	if err != nil {
		return api.HookStatus{}, err
	}
	h := d.hook
	if h == nil {
		if h, err = chooseHook(d.config); err != nil {
			return api.HookStatus{}, err
		}
	}
	chosen := h.status()
	d.log.Info("hook chosen", slog.String("hook", chosen.Kind),
		slog.String("detail", chosen.Detail), slog.String("reason", chosen.Reason))
	fault.At(fault.Inherited)
	d.registry.Restore(ctx, past, registry.Hooks{Hook: h.hook, Fallback: h.fallback})
	fault.At(fault.Restored)
	return chosen, nil
}

// followChanges has settled flows looked at again whenever the inspector says
// that it would decide otherwise by now.
func (d *daemon) followChanges(ctx context.Context) {
	if c, ok := d.inspector.(inspect.Changer); ok {
		follow(ctx, c.Changes(), func(struct{}) { d.logChange(d.registry.Unsettle()) })
	}
}

// followAttachmentChanges carries out what the inspector says of its rules.
func (d *daemon) followAttachmentChanges(ctx context.Context) {
	if c, ok := d.inspector.(inspect.AttachmentChanger); ok {
		follow(ctx, c.AttachmentChanges(), func(c inspect.Change) {
			d.logChange(d.registry.Change(&c))
		})
	}
}

func (d *daemon) logChange(err error) {
	if err != nil {
		d.log.Error("cannot unsettle all flows: some keep the verdict of before the change",
			slog.Any("error", err))
	}
}

// follow calls do with what a channel delivers until that or ctx ends.
func follow[T any](ctx context.Context, changes <-chan T, do func(T)) {
	for {
		select {
		case <-ctx.Done():
			return
		case change, open := <-changes:
			if !open {
				return
			}
			do(change)
		}
	}
}
