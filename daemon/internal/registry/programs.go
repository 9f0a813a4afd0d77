// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/datapath"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/daemon/internal/program"
	"github.com/nsqueue/nsqueue/daemon/internal/programs"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
)

// detachWait is how long detaching waits for programs to end. They are ended beside it
// then.
const detachWait = time.Second

// podProgram is a program of a netns. It is the path of its keeper's packets, and takes the
// lock of the netns for each step.
type podProgram struct {
	registry *Registry
	netns    *podNetns
	config   *programs.Config
	keeper   *programs.Keeper
	trouble  atomic.Pointer[api.Problem]

	// What follows is guarded by the lock of the netns.

	record *state.Program // nil while none runs
	// ended: packets are none of its business any more.
	ended bool
}

// programsOf returns the programs that run for an attachment.
func (r *Registry) programsOf(label *inspect.Attachment) []*programs.Config {
	if r.options.Programs == nil {
		return nil
	}
	return r.options.ProgramsOf(label)
}

// pathOf is how packets get to a program.
func pathOf(c *programs.Config) datapath.Program {
	return datapath.Program{
		Queue: c.Spec.Queue, Queues: c.Spec.Queues, Direct: c.Direct,
		Accepts: c.Away.Accepts,
	}
}

// addPrograms has a datapath know the programs that will run.
func (r *Registry) addPrograms(d *datapath.Datapath) {
	for _, c := range r.programsOf(d.Label()) {
		d.AddProgram(pathOf(c), false)
	}
}

// leftPrograms are the programs of an attachment. Packets go on to those to which they went
// when the earlier daemon ended.
func (r *Registry) leftPrograms(
	label *inspect.Attachment, rec *state.Record,
) []datapath.LeftProgram {
	var left []datapath.LeftProgram
	for _, c := range r.programsOf(label) {
		p := recordedProgram(rec, c.Name)
		left = append(left, datapath.LeftProgram{Program: pathOf(c), Open: p != nil && p.Ready})
	}
	return left
}

func recordedProgram(rec *state.Record, name string) *state.Program {
	i := slices.IndexFunc(rec.Programs, func(p state.Program) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return &rec.Programs[i]
}

// startPrograms has the programs of a netns run from now on.
func (r *Registry) startPrograms(n lockedNetns, rec *state.Record) {
	var list []*podProgram
	for _, c := range r.programsOf(n.datapath.Label()) {
		if p := r.startProgram(n, c, rec); p != nil {
			list = append(list, p)
		}
	}
	n.programs.Store(&list)
}

// startProgram has a program run, and returns nil where that fails. What an earlier daemon
// has not recorded is ended: it would have the queues.
func (r *Registry) startProgram(
	n lockedNetns, c *programs.Config, rec *state.Record,
) *podProgram {
	p := &podProgram{
		registry: r, netns: n.podNetns, config: c, record: recordedProgram(rec, c.Name),
	}
	pod := program.Pod{
		Namespace: rec.Pod.Namespace, Name: rec.Pod.Name, UID: rec.Pod.UID, Netns: rec.Netns.Path,
	}
	if p.record == nil {
		if _, err := n.datapath.CloseProgram(c.Spec.Queue); err != nil {
			r.events.log(rec).Error("cannot end what a program has left that is not recorded",
				slog.String("program", c.Name), slog.Any("error", err))
		}
	}
	var err error
	p.keeper, err = r.options.Programs.Keep(c, n.datapath.Netns(), pod, n.datapath.Label(), p,
		p.record)
	if err != nil {
		r.events.report(slog.LevelError, api.EventProgram, rec,
			"program "+c.Name+" cannot be started: "+err.Error())
		return nil
	}
	return p
}

// adaptPrograms starts programs to which rules send packets now, and has others end.
func (r *Registry) adaptPrograms(n lockedNetns) error {
	if n.datapath == nil || r.options.Programs == nil {
		return nil
	}
	wanted := r.programsOf(n.datapath.Label())
	var list, old []*podProgram
	for _, p := range n.running() {
		if i := slices.Index(wanted, p.config); i >= 0 {
			list, wanted = append(list, p), slices.Delete(slices.Clone(wanted), i, i+1)
		} else {
			old = append(old, p)
		}
	}
	if old == nil && len(wanted) == 0 {
		return nil
	}
	err := n.endPrograms(old)
	rec := r.recordOf(n)
	rec.Programs = nil
	for _, c := range wanted {
		n.datapath.AddProgram(pathOf(c), false)
		if p := r.startProgram(n, c, &rec); p != nil {
			list = append(list, p)
		}
	}
	n.programs.Store(&list)
	r.savePrograms(n)
	return err
}

// endPrograms has programs end whose netns stays.
func (n lockedNetns) endPrograms(list []*podProgram) error {
	var errs []error
	for _, p := range list {
		p.ended, p.record = true, nil
		_, err := n.datapath.CloseProgram(p.config.Spec.Queue)
		n.datapath.RemoveProgram(p.config.Spec.Queue)
		errs = append(errs, err)
	}
	n.stop(list)
	return errors.Join(errs...)
}

// awaitPrograms waits until the programs read their queues that a pod waits for.
func (r *Registry) awaitPrograms(ctx context.Context, a *attachment) {
	var waiting sync.WaitGroup
	for _, p := range a.netns.running() {
		if p.config.Wait > 0 {
			waiting.Go(func() { r.awaitProgram(ctx, a, p) })
		}
	}
	waiting.Wait()
}

func (r *Registry) awaitProgram(ctx context.Context, a *attachment, p *podProgram) {
	limit := time.NewTimer(p.config.Wait)
	defer limit.Stop()
	select {
	case <-p.keeper.Ready():
	case <-p.keeper.Done():
	case <-ctx.Done():
	case <-limit.C:
		r.events.report(slog.LevelWarn, api.EventProgram, &a.record, "program "+p.config.Name+
			" does not read its queue so far; the pod waits no longer for it")
	}
}

// Open has packets go to the program. See [programs.Path].
func (p *podProgram) Open(copies []*nfqueue.Copy) error {
	n := p.netns.lock()
	defer n.unlock()
	if p.ended || n.datapath == nil {
		return programs.ErrEnded
	}
	return n.datapath.OpenProgram(p.config.Spec.Queue, copies)
}

// Close has no more packets go to the program.
func (p *podProgram) Close() (answered int, err error) {
	n := p.netns.lock()
	defer n.unlock()
	if p.ended || n.datapath == nil {
		return 0, programs.ErrEnded
	}
	p.record = nil
	answered, err = n.datapath.CloseProgram(p.config.Spec.Queue)
	p.registry.savePrograms(n)
	return answered, err
}

// Sent changes when packets go to the program.
func (p *podProgram) Sent() uint64 {
	if p.config.Direct {
		return uint64(time.Now().Nanosecond()) // only the kernel knows
	}
	return p.netns.counters().Queued
}

// Save records what is to outlive the daemon.
func (p *podProgram) Save(now state.Program) {
	n := p.netns.lock()
	defer n.unlock()
	if p.ended {
		return
	}
	p.record = &now
	p.registry.savePrograms(n)
}

// Report tells what happened to the program.
func (p *podProgram) Report(level slog.Level, message string) {
	n := p.netns.lock()
	rec := p.registry.recordOf(n)
	n.unlock()
	p.registry.events.report(level, api.EventProgram, &rec, message)
}

// Trouble tells what is wrong with the program.
func (p *podProgram) Trouble(message string, away bool) {
	if message == "" {
		p.trouble.Store(nil)
		return
	}
	loses := away && !p.config.Away.Accepts(false)
	p.trouble.Store(&api.Problem{Message: message, Program: true, Inspector: !loses})
}

// ProgramRestarts is how often programs were started again.
func (r *Registry) ProgramRestarts() uint64 {
	if r.options.Programs == nil {
		return 0
	}
	return r.options.Programs.Restarts()
}

// programRecords are what records say of the programs.
func (n lockedNetns) programRecords() []state.Program {
	var list []state.Program
	for _, p := range n.running() {
		if p.record != nil {
			list = append(list, *p.record)
		}
	}
	return list
}

// savePrograms records the programs of a netns.
func (r *Registry) savePrograms(n lockedNetns) {
	r.saveMembers(n, func(rec *state.Record) bool {
		if rec.State == api.Detaching {
			return false
		}
		rec.Programs = n.programRecords()
		return true
	}, func(log *slog.Logger, err error) {
		log.Warn("cannot save a state file; programs will be started again after a restart",
			slog.Any("error", err))
	})
}

// running returns the programs there are.
func (n *podNetns) running() []*podProgram {
	list := n.programs.Load()
	if list == nil {
		return nil
	}
	return *list
}

// takePrograms returns the programs, which the netns no longer has.
func (n lockedNetns) takePrograms() []*podProgram {
	list := n.running()
	n.programs.Store(nil)
	for _, p := range list {
		p.ended = true
	}
	return list
}

// stop has programs end.
func (n lockedNetns) stop(list []*podProgram) {
	for _, p := range list {
		p.registry.ending.Go(func() { <-p.keeper.Done() })
		p.keeper.Stop()
	}
}

// awaitStopped waits for a while until programs have ended.
func (r *Registry) awaitStopped(rec *state.Record, list []*podProgram) {
	if list == nil {
		return
	}
	limit := time.NewTimer(detachWait)
	defer limit.Stop()
	for _, p := range list {
		select {
		case <-p.keeper.Done():
		case <-limit.C:
			r.events.report(slog.LevelWarn, api.EventProgram, rec, "program "+p.config.Name+
				" does not end when it is asked to: it is killed beside")
			return
		}
	}
}

// awaitAllStopped waits until all programs have ended that were told to.
func (r *Registry) awaitAllStopped() { r.ending.Wait() }

// leavePrograms has all programs go on without this daemon.
func (r *Registry) leavePrograms() {
	var all []*podProgram
	r.eachNetns(func(n lockedNetns) { all = append(all, n.takePrograms()...) })
	for _, p := range all {
		p.keeper.Leave()
	}
	for _, p := range all {
		<-p.keeper.Done()
	}
}

// ours returns what tells processes of programs from those of pods.
func (r *Registry) ours() func(pid int) bool {
	if r.options.Programs == nil {
		return func(int) bool { return false }
	}
	pids, err := r.options.Programs.Processes()
	if err != nil {
		r.options.Log.Warn("cannot list the processes of programs", slog.Any("error", err))
	}
	return func(pid int) bool { return pids[pid] }
}

// Sweep ends programs of earlier daemons whose pods are gone, or have others. Call it after
// [Registry.Restore] once no other daemon may go on in the place of this one.
func (r *Registry) Sweep() {
	if r.options.Programs == nil || r.options.Descriptors.Revoked() {
		return
	}
	stays := make(map[string]bool)
	r.mu.Lock()
	for _, waits := range r.pending {
		for _, p := range waits.Programs {
			stays[p.Group] = true
		}
	}
	r.mu.Unlock()
	if err := r.options.Programs.Sweep(stays); err != nil {
		r.options.Log.Error("cannot end programs that belong to no pod", slog.Any("error", err))
	}
}

// programTrouble is what is wrong with a program, nil for nothing.
func (n *podNetns) programTrouble() *api.Problem {
	for _, p := range n.running() {
		if problem := p.trouble.Load(); problem != nil {
			return problem
		}
	}
	return nil
}

// programStates describes the programs.
func (n *podNetns) programStates() []api.Program {
	var list []api.Program
	for _, p := range n.running() {
		s := p.keeper.Status()
		described := api.Program{
			Name: s.Name, Queue: s.Queue, PID: s.PID, Ready: s.Ready,
			Restarts: s.Restarts, LastEnd: s.LastEnd, Problem: s.Trouble,
		}
		if s.PID != 0 {
			since := s.Since.UTC()
			described.Since = &since
		}
		list = append(list, described)
	}
	return list
}

// addUsage adds what the programs use.
func (n *podNetns) addUsage(list []api.Program) {
	for i, p := range n.running() {
		u, err := p.keeper.Usage()
		if err != nil || i >= len(list) {
			continue
		}
		list[i].Usage = &api.ProgramUsage{MemoryBytes: u.Memory, CPUSeconds: u.CPU.Seconds()}
	}
}
