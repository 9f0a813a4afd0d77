// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/calls"
	"github.com/nsqueue/nsqueue/daemon/internal/metrics"
	"github.com/nsqueue/nsqueue/daemon/internal/policy"
	"github.com/nsqueue/nsqueue/daemon/internal/registry"
	"github.com/nsqueue/nsqueue/internal/spool"
)

// backend answers the calls of the API; its methods are the one place where the
// way of each call can be read. Those that change attachments go like this:
//
//	Attach, Detach   sequencer → adopter is told → registry
//	Check            sequencer replays what is spooled of the key → registry
//	DetachAll, Retire            adopter is told → registry
//	Adopt                        adopter         → registry
//	Collect                                        registry
//
// The sequencer orders the calls about one attachment, spooled ones included:
// runtimes make them one after the other and rely on it. The others are not in
// that order, and neither is the registry's own detaching in Reconcile. They
// need not be: the registry moves an attachment by one call at a time, Collect
// and Reconcile detach only what was called for before they looked, and Adopt
// asks the adopter what was detached since its scan began. DetachAll is an
// operator's: what is attached while it runs may stay. None of them voids what
// is spooled.
type backend struct {
	registry  *registry.Registry
	adopter   *adopter
	sequencer *calls.Sequencer
	// leave has what outlives this process know that the installation leaves the node.
	leave func() error
	// stopping ends when the daemon stops.
	stopping   context.Context
	policy     *policy.Policy // nil: no rules
	labels     *labeler       // of use with rules only
	outside    *outside       // nil: no inspectors outside
	config     *Config
	hook       api.HookStatus
	supervisor api.Supervisor
	// stored tells what the supervisor keeps.
	stored func() (n, capacity int)
	// handover tells what the supervisor is to others.
	handover func() *api.Handover
	// place is looked at when somebody asks first: it stays as it is.
	place   func() api.Place
	started time.Time
	scrape  http.Handler // answers scrapes
	level   *slog.LevelVar
	log     *slog.Logger
}

// newBackend returns what answers calls until stopping ends.
func (d *daemon) newBackend(stopping context.Context, hook api.HookStatus) *backend {
	a := newAdopter(d.config, d.registry, d.log)
	b := &backend{
		registry: d.registry, adopter: a,
		sequencer: calls.New(spool.Path(d.config.Socket),
			announced{registry: d.registry, adopter: a}, d.log),
		stopping: stopping, policy: d.policy, labels: d.labels, outside: d.outside,
		config: d.config, hook: hook,
		started:    time.Now().UTC(),
		place:      sync.OnceValue(func() api.Place { return lookAround(d.config) }),
		supervisor: supervisorStatus(d.super.Supervisor()), stored: d.super.Usage,
		handover: d.super.handover, leave: d.super.Retire,
		scrape: d.metrics.Handler(d.log), level: d.level, log: d.log,
	}
	observed := metrics.Daemon{
		Source: d.registry, Hook: hook.Kind, FailurePolicy: d.config.FailurePolicy,
		Restarts: b.supervisor.Restarts, Handover: b.handover, PerPod: d.config.Metrics.PerPod,
		PerRule: d.config.Rules.PerRuleMetrics,
	}
	if d.policy != nil {
		observed.Rules = d.policy
		observed.Labels = func() *api.LabelsState { return d.labels.state(nil) }
	}
	if d.outside != nil {
		observed.Inspectors = d.outside.inspectors
	}
	d.metrics.Observe(observed)
	return b
}

// announced is the registry as the sequencer sees it: the adopter is told of
// each call before the registry is.
type announced struct {
	registry *registry.Registry
	adopter  *adopter
}

// AttachCalled makes the attachment that was called for at a time since boot.
func (a announced) AttachCalled(
	ctx context.Context, req api.AttachRequest, netns *os.File, called time.Duration,
) (api.Attachment, error) {
	a.adopter.attaching(req.Key)
	attached, err := a.registry.AttachCalled(ctx, req, netns, called)
	if req.Origin == api.OriginCNI && api.CodeOf(err) == api.CodeRetired {
		// The pod is to start, under both policies: there is to be no nsqueue here.
		return api.Attachment{Key: req.Key, Origin: req.Origin, State: api.NotInspected}, nil
	}
	return attached, err
}

// DetachOlder detaches what was called for before a time since boot.
func (a announced) DetachOlder(
	ctx context.Context, req api.DetachRequest, called time.Duration,
) error {
	a.adopter.detaching(req.Key)
	return a.registry.DetachOlder(ctx, req, called)
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

// Retire detaches all attachments and makes no more. What outlives this process is told
// first: if it dies half way, the next one goes on with it.
func (b *backend) Retire(ctx context.Context) (int, error) {
	if err := b.leave(); err != nil {
		return 0, err
	}
	b.adopter.detachingAll()
	n, err := b.registry.Retire(ctx)
	b.log.Info("retired: nsqueue leaves this node", slog.Int("detached", n), slog.Any("error", err))
	return n, err
}

// Check looks at the attachment as it is after what is spooled. There are none on a node
// that nsqueue leaves.
func (b *backend) Check(ctx context.Context, key api.Key) error {
	if b.registry.Retired() {
		return nil
	}
	b.sequencer.ReplayKey(ctx, key)
	return b.registry.Check(ctx, key)
}

// DetachAll detaches all attachments, in no order with other calls.
func (b *backend) DetachAll(ctx context.Context) (int, error) {
	b.adopter.detachingAll()
	return b.registry.DetachAll(ctx)
}

// Collect detaches what a CNI GC call no longer names, in no order with other
// calls. Adopted attachments are never collected, so that the adopter need not
// be told.
func (b *backend) Collect(
	ctx context.Context, req api.CollectRequest,
) (api.DetachResult, error) {
	return b.registry.Collect(ctx, req)
}

// Adopt attaches pods that are older than the daemon, one scan at a time. It
// ends early when the daemon stops.
func (b *backend) Adopt(ctx context.Context, req api.AdoptRequest) (api.AdoptResults, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(b.stopping, cancel)()
	if b.registry.Retired() {
		return api.AdoptResults{}, api.Errorf(api.CodeRetired,
			"nsqueue leaves this node: no pod is adopted any more")
	}
	return b.adopter.Adopt(ctx, req)
}

// adoptExisting does so unasked.
func (b *backend) adoptExisting(ctx context.Context) {
	if _, err := b.adopter.Adopt(ctx, api.AdoptRequest{}); err != nil {
		b.log.Error("cannot look for pods that are older than nsqueued: they stay uninspected",
			slog.Any("error", err))
	}
}

// The calls below change no attachment.

// Warn makes an event of what is wrong with a pod that is not attached.
func (b *backend) Warn(ctx context.Context, report api.WarningReport) error {
	return b.registry.Warn(ctx, report)
}

// Upgrade asks the supervisor to execute what is installed by now.
func (b *backend) Upgrade(context.Context) error {
	if b.handover() != nil {
		return api.Errorf(api.CodeNotSupervised, "upgrade: supervisors hand over to each other "+
			"here: start the new version beside this one, with the same --handover-dir")
	}
	return upgrade(b.supervisor, os.Getppid(), unix.Kill)
}

// SetLogLevel changes what is logged until the daemon ends.
func (b *backend) SetLogLevel(ctx context.Context, level api.LogLevel) error {
	b.level.Set(slogLevel(level))
	// Whatever the level is, the log says where it changes.
	b.log.Log(ctx, slogLevel(level), "log level changed", slog.String("to", string(level)))
	return nil
}

// List returns all attachments, ordered by key.
func (b *backend) List(ctx context.Context) ([]api.Attachment, error) {
	list, err := b.registry.List(ctx)
	for i := range list {
		list[i].Reader = b.reader(list[i].Key)
	}
	return list, err
}

// reader says what judges the packets of an attachment.
func (b *backend) reader(key api.Key) *api.Reader {
	if r, ok := b.outside.reader(key); ok {
		return &r
	}
	if b.policy != nil {
		return &api.Reader{Kind: api.ReaderRules}
	}
	return &api.Reader{Kind: api.ReaderDaemon}
}

// Describe returns all that is known of an attachment.
func (b *backend) Describe(ctx context.Context, key api.Key) (api.Description, error) {
	d, err := b.registry.Describe(ctx, key)
	if err == nil {
		d.Reader = b.reader(key)
	}
	return d, err
}

// Events returns what happened of late.
func (b *backend) Events(ctx context.Context) ([]api.Event, error) {
	return b.registry.Events(ctx)
}

// Watch reports packets as they are inspected.
func (b *backend) Watch(
	ctx context.Context, req api.WatchRequest, started func() error,
	emit func([]api.PacketEvent) error,
) error {
	return b.registry.Watch(ctx, req, started, emit)
}

// Marks looks for other users of the inspector's mark bits.
func (b *backend) Marks(ctx context.Context) (api.MarkReport, error) {
	return b.registry.Marks(ctx)
}

// Metrics answers a scrape.
func (b *backend) Metrics(w http.ResponseWriter, r *http.Request) { b.scrape.ServeHTTP(w, r) }

// Status describes the daemon. What cannot be counted is left out, and logged.
func (b *backend) Status(ctx context.Context) (api.Status, error) {
	list, err := b.registry.List(ctx)
	if err != nil {
		return api.Status{}, err
	}
	s := api.Status{
		Version: api.Version(), PID: os.Getpid(), Started: b.started,
		StateDir: b.config.StateDir, FailurePolicy: b.config.FailurePolicy,
		Supervisor: b.supervisor, Hook: b.hook, Attachments: len(list),
		Retired:  b.registry.Retired(),
		Counters: b.registry.Total(), Untold: b.registry.Untold(),
		Orphans:  b.registry.Orphans(),
		Problems: b.registry.Problems(), Doubts: b.registry.Doubts(),
	}
	s.Supervisor.Stored, s.Supervisor.Capacity = b.stored()
	s.Supervisor.Handover = b.handover()
	if b.policy != nil {
		s.Rules = b.policy.State()
		s.Labels = b.labels.state(list)
	}
	s.Inspectors = b.outside.inspectors()
	at := b.place()
	s.Place = &at
	if s.Descriptors, err = b.registry.Descriptors(); err != nil { // at the limit itself, perhaps
		b.log.Warn("cannot count open descriptors; status shows none", slog.Any("error", err))
	}
	if s.Buffers, err = b.registry.Buffers(); err != nil {
		b.log.Warn("cannot measure receive buffers; status shows none", slog.Any("error", err))
	}
	if s.Spooled, err = b.sequencer.Count(); err != nil {
		b.log.Warn("cannot count spooled calls; status shows none", slog.Any("error", err))
	}
	return s, nil
}
