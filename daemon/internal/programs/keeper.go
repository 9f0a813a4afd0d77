// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/cgroup"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/program"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
)

// How long things take.
const (
	// StopLimit is how long a program may take to end that was asked to.
	StopLimit = 2 * time.Second
	// stable is how long a program has to read its queue before its next end counts as
	// the first one.
	stable = 10 * time.Second
	// lateAfter is how long a program may take to bind its queues before that is told.
	lateAfter = 5 * time.Second
	// manyEnds in a row are told as trouble.
	manyEnds = 3
	// reportEvery is how often one kind of news is told at most.
	reportEvery = time.Minute
)

// Keeper keeps one program running. Its methods may be called by any goroutine.
type Keeper struct {
	programs  *Programs
	config    *Config
	ns        *netns.NetNS
	pod       program.Pod
	label     *inspect.Attachment
	path      Path
	group     *cgroup.Group
	groupName string
	log       *slog.Logger

	end   chan ending   // takes one value
	done  chan struct{} // closed when the goroutine has ended
	ready chan struct{} // closed when packets have gone to the program for the first time
	once  sync.Once     // closes ready

	mu     sync.Mutex
	status Status

	// What follows belongs to the keeper's goroutine.
	ends     int             // in a row
	arrival  <-chan struct{} // closed when an inspector connects; nil where none is waited for
	reported time.Time
	silenced int
	prints   *os.File       // what the process prints comes from there; nil before any
	output   sync.WaitGroup // of the goroutines that read it
}

// ending is what becomes of the program when its keeper ends.
type ending uint8

const (
	stopProgram ending = iota
	leaveProgram
)

// Status is what is known of a program now.
type Status struct {
	Name  string
	Queue uint16
	// PID is 0 while none runs.
	PID int
	// Ready says that packets go to it.
	Ready    bool
	Since    time.Time // of PID
	Restarts uint64
	// LastEnd says how it ended last, empty for never.
	LastEnd string
	// Trouble says what is wrong, empty for nothing.
	Trouble string
}

// Status returns what is known.
func (k *Keeper) Status() Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.status
}

// Config returns what the keeper was made with.
func (k *Keeper) Config() *Config { return k.config }

// Usage returns what the program and all that it has started use.
func (k *Keeper) Usage() (cgroup.Usage, error) {
	if k.config.Lender != nil {
		return cgroup.Usage{}, errors.ErrUnsupported // it works for other pods, too
	}
	return k.group.Usage()
}

// Ready is closed when packets have gone to the program for the first time.
func (k *Keeper) Ready() <-chan struct{} { return k.ready }

// Stop has the program end; its path is not used any more. It does not wait.
func (k *Keeper) Stop() { k.finish(stopProgram) }

// Leave has the program go on without its keeper. It does not wait.
func (k *Keeper) Leave() { k.finish(leaveProgram) }

// Done is closed when nothing is left to do.
func (k *Keeper) Done() <-chan struct{} { return k.done }

func (k *Keeper) finish(how ending) {
	select {
	case k.end <- how:
	default: // it was told already
	}
}

func (k *Keeper) change(fn func(*Status)) {
	k.mu.Lock()
	fn(&k.status)
	k.mu.Unlock()
}

// trouble tells what is wrong now, empty for nothing.
func (k *Keeper) trouble(text string) {
	away := false
	k.change(func(s *Status) { s.Trouble, away = text, !s.Ready })
	k.path.Trouble(text, away)
}

// report tells what happened, unless it tells too much.
func (k *Keeper) report(level slog.Level, text string) {
	now := time.Now()
	if k.ends > manyEnds && now.Sub(k.reported) < reportEvery {
		k.silenced++
		return
	}
	if k.silenced > 0 {
		text += fmt.Sprintf(" (%d reports before this one were left out)", k.silenced)
	}
	k.reported, k.silenced = now, 0
	k.path.Report(level, "program "+k.config.Name+" "+text)
}

// run keeps the program until it is told how to end.
func (k *Keeper) run(left *state.Program) {
	defer k.ns.Close()
	process, how, ended := k.inherit(left)
	for !ended {
		if process == nil {
			process = k.start()
		}
		if process != nil {
			how, ended = k.attend(process)
			process = nil
		}
		if !ended {
			how, ended = k.pause()
		}
	}
	if how == stopProgram && k.config.Lender == nil {
		k.logError("cannot remove a program's group", k.programs.remove(k.group))
	}
	k.endOutput(how)
}

// lastWords is how long the output of a program is read that has ended.
const lastWords = 100 * time.Millisecond

// endOutput has the output no longer read, once all was that a program has printed which
// has ended.
func (k *Keeper) endOutput(how ending) {
	if k.prints == nil {
		return
	}
	if how == stopProgram && k.prints.SetReadDeadline(time.Now().Add(lastWords)) == nil {
		k.output.Wait() // it ends with the processes
	}
	_ = k.prints.Close()
	k.output.Wait()
}

// inherit takes over what an earlier daemon has started; nil where it is gone, or is not
// what is to be started now.
func (k *Keeper) inherit(left *state.Program) (worker, ending, bool) {
	if k.config.Lender != nil {
		k.takeBack(left)
		return nil, 0, false
	}
	if left == nil {
		// Of an earlier daemon that died before it could record it.
		k.logError("cannot remove a program's group", k.programs.remove(k.group))
		return nil, 0, false
	}
	p, err := program.Open(left.PID, left.Start, k.group)
	if err == nil && left.Digest == k.config.Spec.Digest() {
		w := started{k, p}
		k.show(w)
		return w, 0, false
	}
	why := "is started anew, because its configuration has changed"
	if err != nil {
		why = "has ended while no daemon ran"
	}
	k.closePath(why)
	how, ended := stopProgram, false
	if err == nil {
		w := started{k, p}
		how, ended = k.stop(w, endOf(w))
		k.logError("cannot let go of a program", w.close())
	}
	k.logError("cannot remove a program's group", k.programs.remove(k.group))
	return nil, how, ended
}

// start starts the program; nil where that fails.
func (k *Keeper) start() worker {
	w, err := k.launch()
	switch {
	case errors.Is(err, ErrAway): // who keeps the connections tells of it
		k.once.Do(func() { close(k.ready) })
		return nil
	case err != nil:
		k.ends++
		k.change(func(s *Status) { s.LastEnd = "cannot be started: " + err.Error() })
		k.report(slog.LevelError, "cannot be started: "+err.Error())
		k.trouble(fmt.Sprintf("program %s cannot be started: %s", k.config.Name, err))
		return nil
	}
	k.show(w)
	k.save(w, false)
	return w
}

func (k *Keeper) launch() (worker, error) {
	if k.config.Lender != nil {
		return k.lend()
	}
	spec := &k.config.Spec
	if err := k.programs.make(k.groupName, spec.Limits); err != nil {
		return nil, err
	}
	p, output, err := spec.Start(k.ns, k.group, &k.pod)
	if err != nil {
		return nil, err
	}
	k.follow(output)
	return started{k, p}, nil
}

func (k *Keeper) show(w worker) {
	k.change(func(s *Status) { s.PID, s.Since = w.pid(), time.Now() })
}

func (k *Keeper) save(w worker, ready bool) {
	k.path.Save(state.Program{
		Name: k.config.Name, PID: w.pid(), Start: w.start(), Group: k.groupName,
		Ready: ready, Digest: k.config.Spec.Digest(), Restarts: k.Status().Restarts,
	})
}

// pause waits before the next start.
func (k *Keeper) pause() (ending, bool) {
	wait := k.config.Backoff << min(max(k.ends-1, 0), 20)
	if wait <= 0 || wait > k.config.MaxBackoff {
		wait = k.config.MaxBackoff
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	if k.arrival != nil { // until then, nothing can be started
		timer.Stop()
	}
	select {
	case how := <-k.end:
		return how, true
	case <-k.arrival:
		k.arrival, k.ends = nil, 0
		return 0, false
	case <-timer.C:
		k.change(func(s *Status) { s.Restarts++ })
		k.programs.restarts.Add(1)
		return 0, false
	}
}

// endOf is told how a program has ended, unless it is closed before.
func endOf(w worker) <-chan string {
	ended := make(chan string, 1)
	go func() { ended <- w.wait() }()
	return ended
}

// stop ends a program, at once if it does not do so by itself. It may be told meanwhile
// how the keeper is to end, which it returns.
func (k *Keeper) stop(w worker, ended <-chan string) (how ending, told bool) {
	k.logError("cannot ask a program to end", w.terminate())
	timer := time.NewTimer(StopLimit)
	defer timer.Stop()
	select {
	case <-ended:
		return how, false
	case <-timer.C:
	case how = <-k.end:
		told = true
	}
	k.logError("cannot end a program", w.kill())
	<-ended
	return how, told
}

// closePath has no more packets go to the program, and says why.
func (k *Keeper) closePath(why string) {
	answered, err := k.path.Close()
	if answered > 0 {
		why += fmt.Sprintf("; %d packets that waited for it got their verdict without it", answered)
	}
	if err != nil && !errors.Is(err, ErrEnded) {
		why += "; not all packets that waited for it could be answered: " + err.Error()
	}
	k.report(slog.LevelWarn, why)
}

// ErrEnded is in the chain of errors of a [Path] that is not used any more.
var ErrEnded = errors.New("the pod is being detached")

func (k *Keeper) logError(message string, err error) {
	if err != nil {
		k.log.Error("program", slog.String("problem", message), slog.Any("error", err))
	}
}
