// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
)

// maxPollers is enough for what a kernel can queue; more only wait.
const maxPollers = 16

// pollers serve all queues of the node, each in a goroutine of its own. Queues
// are dealt out to them in turn.
type pollers struct {
	log     *slog.Logger
	overran func(*nfqueue.Reader)
	all     []*nfqueue.Poller
	deal    atomic.Uint32
	// awake holds a value since one of them was no longer idle.
	awake chan struct{}
	// running is how many goroutines are on duty. One that was superseded
	// ends when its inspector lets it, and is not waited for.
	running sync.WaitGroup
}

// newPollers makes a poller for each processor and runs it. One processor of the runtime
// is left to all else.
func newPollers(
	copyRange uint32, coalesce time.Duration, overran func(*nfqueue.Reader), log *slog.Logger,
) (*pollers, error) {
	p := &pollers{log: log, overran: overran, awake: make(chan struct{}, 1)}
	processors := runtime.GOMAXPROCS(0)
	o := nfqueue.PollerOptions{
		CopyRange: copyRange, Coalesce: coalesce, Awake: p.wake,
		HotWaits: nfqueue.NewHotWaits(processors - 1),
	}
	for range min(processors, runtime.NumCPU(), maxPollers) {
		poller, err := nfqueue.NewPoller(o)
		if err != nil {
			return nil, errors.Join(err, p.close())
		}
		p.all = append(p.all, poller)
		p.running.Add(1)
		p.run(poller)
	}
	return p, nil
}

// run has a poller work in a new goroutine, which takes over the place that was
// counted for it or for the one that it succeeds.
func (p *pollers) run(poller *nfqueue.Poller) {
	go func() {
		err := poller.Run()
		if errors.Is(err, nfqueue.ErrSuperseded) {
			return
		}
		if err != nil {
			p.log.Error("a goroutine that reads queues stopped", slog.Any("error", err))
		}
		p.running.Done()
	}()
}

// wake tells the watchdog that there may be something to watch.
func (p *pollers) wake() {
	select {
	case p.awake <- struct{}{}:
	default:
	}
}

// idle reports that no poller has a batch, nor will have before awake is full.
func (p *pollers) idle() bool {
	return !slices.ContainsFunc(p.all, func(poller *nfqueue.Poller) bool { return !poller.Idle() })
}

// supersede puts successors in place of goroutines whose inspector overran.
func (p *pollers) supersede(budget time.Duration) {
	for _, poller := range p.all {
		r, err := poller.Supersede(budget)
		if err != nil {
			p.log.Error("cannot replace a reader whose inspector exceeded its budget",
				slog.Any("error", err))
		}
		if r == nil {
			continue
		}
		p.overran(r)
		p.run(poller)
	}
}

func (p *pollers) next() *nfqueue.Poller {
	return p.all[int(p.deal.Add(1))%len(p.all)]
}

// stop ends the goroutines, once all packets that they have read are answered, or
// deferred, and answers these.
func (p *pollers) stop() error {
	var errs []error
	for _, poller := range p.all {
		errs = append(errs, poller.Stop())
	}
	p.running.Wait()
	for _, poller := range p.all {
		poller.EndDeferrals()
	}
	return errors.Join(errs...)
}

// close stops, and closes the pollers. No queue may be open any more.
func (p *pollers) close() error {
	errs := []error{p.stop()}
	for _, poller := range p.all {
		errs = append(errs, poller.Close())
	}
	return errors.Join(errs...)
}

// watchdog supersedes goroutines whose inspector overruns its budget, and returns when
// ctx ends.
func (p *pollers) watchdog(ctx context.Context, budget time.Duration) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.awake:
		}
		p.watch(ctx, budget)
	}
}

// watch returns when the pollers are idle, so that an idle node has no ticks.
func (p *pollers) watch(ctx context.Context, budget time.Duration) {
	tick := time.NewTicker(budget / 4)
	defer tick.Stop()
	for !p.idle() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		p.supersede(budget)
	}
}
