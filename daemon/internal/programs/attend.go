// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/daemon/internal/program"
)

// How often a program is looked at that has not bound its queues so far: at first often,
// because a pod waits for it.
const (
	firstLook = 2 * time.Millisecond
	lastLook  = 100 * time.Millisecond
)

// attendance is the time of one process.
type attendance struct {
	*Keeper
	process worker
	ended   <-chan string
	began   time.Time
	ready   time.Time // zero before it is
	late    bool      // that it is late was told
	wait    time.Duration
	timer   *time.Timer
	hung    progress
	slow    bool // was told
	sent    uint64
}

// attend waits until the process has ended, or returns how the keeper is to end.
func (k *Keeper) attend(w worker) (ending, bool) {
	a := &attendance{
		Keeper: k, process: w, ended: endOf(w), began: time.Now(),
		wait: firstLook, timer: time.NewTimer(0),
	}
	defer a.timer.Stop()
	if output := w.adopted(); output != nil {
		k.follow(output)
	}
	for {
		select {
		case how := <-k.end:
			return a.finish(how), true
		case text := <-a.ended:
			a.hasEnded(text)
			return 0, false
		case <-a.timer.C:
			a.look()
		}
	}
}

// finish ends the attendance as the keeper is to end.
func (a *attendance) finish(how ending) ending {
	if how == stopProgram {
		a.stop(a.process, a.ended)
	}
	a.logError("cannot let go of a program", a.process.close())
	return how
}

// look does what is to be done by the clock.
func (a *attendance) look() {
	if a.ready.IsZero() {
		a.lookForQueues()
	} else {
		a.lookForProgress()
	}
	a.timer.Reset(a.wait)
}

// lookForQueues has packets go to the program once it has bound its queues.
func (a *attendance) lookForQueues() {
	a.wait = min(a.wait*3/2, lastLook)
	binding, err := a.process.find()
	if err == nil && binding.Copies != nil {
		err = a.path.Open(binding.Copies)
		if err == nil {
			a.isReady()
			return
		}
		err = errors.Join(err, binding.Close())
	}
	if !errors.Is(err, ErrEnded) && time.Since(a.began) > lateAfter {
		a.isLate(&binding, err)
	}
}

// isReady: packets go to the program.
func (a *attendance) isReady() {
	a.ready = time.Now()
	a.wait = a.config.Budget / looks
	a.change(func(s *Status) { s.Ready = true })
	a.once.Do(func() { close(a.Keeper.ready) })
	a.save(a.process, true)
	a.trouble("")
	a.report(slog.LevelInfo, fmt.Sprintf("reads %s, process %d",
		queuesText(&a.config.Spec), a.process.pid()))
}

func queuesText(s *program.Spec) string {
	if s.Queues == 1 {
		return fmt.Sprintf("queue %d", s.Queue)
	}
	return fmt.Sprintf("queues %d to %d", s.Queue, s.Queue+s.Queues-1)
}

// isLate tells once that the program has not bound its queues, and keeps saying so.
func (a *attendance) isLate(b *program.Binding, err error) {
	text := fmt.Sprintf("has not bound %s", queuesText(&a.config.Spec))
	switch {
	case err != nil:
		text = "cannot be used: " + err.Error()
	case b.Foreign:
		text += ": another program in the netns holds it"
	case len(b.Others) > 0:
		text += fmt.Sprintf(", but %d: %s", b.Others, a.remedy())
	}
	if !a.late {
		a.late = true
		a.report(slog.LevelError, fmt.Sprintf("%s; process %d, for %s", text, a.process.pid(),
			time.Since(a.began).Round(time.Second)))
	}
	a.trouble("program " + a.config.Name + " " + text)
}

// remedy is for a program that has bound other numbers.
func (a *attendance) remedy() string {
	if a.config.Lender != nil {
		return "it is to bind the one that WELCOME has"
	}
	return "give it the number by ${QUEUE}, or set exec.queue"
}

// looks is how often within its budget a program is looked at.
const looks = 4

// lookForProgress ends the process if packets wait and it answers none.
func (a *attendance) lookForProgress() {
	sent := a.path.Sent()
	if sent == a.sent && !a.hung.waiting {
		return
	}
	a.sent = sent
	stats, err := nfqueue.Stats(a.ns)
	if err != nil {
		a.logError("cannot look at a program's queues", err)
		return
	}
	own := a.own(stats)
	behind := a.hung.look(own, time.Now())
	switch {
	case len(own) < int(a.config.Spec.Queues):
		a.giveUp("reads " + queuesText(&a.config.Spec) + " no more")
	case behind.stuck >= a.config.Budget:
		a.giveUp(fmt.Sprintf("hangs: it has answered no packet for %s, and %d wait",
			behind.stuck.Round(time.Millisecond), behind.waiting))
	default:
		a.tellSlow(behind.oldest)
	}
}

// giveUp ends a program that does not do what it is for.
func (a *attendance) giveUp(why string) {
	a.closePath(fmt.Sprintf("%s: %s process %d", why, a.cure(), a.process.pid()))
	a.logError("cannot end a program", a.process.kill())
	a.hung = progress{}
}

// cure is how that is done.
func (a *attendance) cure() string {
	if a.config.Lender != nil {
		return "taking its socket back from"
	}
	return "ending"
}

// tellSlow tells when packets begin to wait for long, and when they do no more.
func (a *attendance) tellSlow(oldest time.Duration) {
	slow := oldest >= a.config.Budget || a.slow && oldest >= a.config.Budget/2
	if slow == a.slow {
		return
	}
	a.slow = slow
	if !slow {
		a.trouble("")
		return
	}
	text := fmt.Sprintf("is slow: packets wait for %s", oldest.Round(time.Millisecond))
	a.report(slog.LevelWarn, text)
	a.trouble("program " + a.config.Name + " " + text)
}

// own returns what the kernel says of the program's queues.
func (a *attendance) own(stats []nfqueue.Stat) []nfqueue.Stat {
	var own []nfqueue.Stat
	for _, s := range stats {
		if a.config.Spec.Has(s.Number) {
			own = append(own, s)
		}
	}
	return own
}

// hasEnded does what is to be done when the process has ended.
func (a *attendance) hasEnded(how string) {
	if !a.ready.IsZero() && time.Since(a.ready) > stable {
		a.ends = 0
	}
	a.ends++
	if usage, err := a.Usage(); err == nil && usage.OOMKills > 0 {
		how += ", its memory was used up (resources.memory)"
	}
	a.change(func(s *Status) { s.PID, s.Ready, s.LastEnd = 0, false, how })
	if a.ready.IsZero() {
		how += " before it had bound " + queuesText(&a.config.Spec)
	}
	a.closePath(fmt.Sprintf("(process %d) %s", a.process.pid(), how))
	if a.ends >= manyEnds {
		a.trouble(fmt.Sprintf("program %s ends again and again, %d times in a row: the last one %s",
			a.config.Name, a.ends, how))
	}
	a.logError("cannot remove a program's group", a.process.end())
	a.logError("cannot let go of a program", a.process.close())
}
