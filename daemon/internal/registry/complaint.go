// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"cmp"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
)

// An inspector that panics or overruns its budget may do so with each packet.
const (
	// complaintInterval is how far apart log lines are about the same of the node,
	// and events about the same of a pod.
	complaintInterval = time.Minute
	// complaintRecent is for how long after the last one the status shows it.
	complaintRecent = 10 * time.Minute
)

// limiter lets one pass in each complaintInterval.
type limiter struct {
	mu         sync.Mutex
	passed     time.Time
	suppressed uint64
}

// next reports whether this one passes, and how many before it did not.
func (l *limiter) next() (suppressed uint64, passes bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.passed.IsZero() && time.Since(l.passed) < complaintInterval {
		l.suppressed++
		return 0, false
	}
	suppressed = l.suppressed
	l.passed, l.suppressed = time.Now(), 0
	return suppressed, true
}

// panicked logs a panic of the inspector with its stack, at a bounded rate.
func (r *Registry) panicked(reader *nfqueue.Reader, said any) {
	if suppressed, due := r.panics.next(); due {
		r.options.Log.Error("inspector panicked, the packet got the policy's verdict",
			whoseQueue(reader), slog.String("panic", nfqueue.PanicText(said)),
			slog.Uint64("suppressed", suppressed), slog.String("stack", string(debug.Stack())))
	}
}

// overran logs that the inspector took too long, at a bounded rate.
func (r *Registry) overran(reader *nfqueue.Reader) {
	if suppressed, due := r.overruns.next(); due {
		r.options.Log.Warn("inspector overran its budget, the batch got the policy's verdict",
			whoseQueue(reader), slog.Duration("budget", r.options.Budget),
			slog.Uint64("suppressed", suppressed))
	}
}

// whoseQueue names the pod and the queue that a reader reads.
func whoseQueue(r *nfqueue.Reader) slog.Attr {
	a := r.Attachment()
	pod := api.Pod{Namespace: a.PodNamespace, Name: a.PodName}
	return slog.GroupAttrs("", slog.String("containerID", a.ContainerID),
		slog.String("ifname", a.Ifname), slog.String("pod", pod.String()),
		slog.Int("queue", int(r.Number())))
}

// complaint is what is known of one kind of trouble with the inspector of a
// netns. It is guarded by the binding's lock.
type complaint struct {
	seen, told    uint64 // of the counter
	grown, toldAt time.Time
	said          string // by the first panic since the event before
}

// look compares with the counter. It returns how many an event is to tell of, 0
// for none.
func (c *complaint) look(count uint64) uint64 {
	now := time.Now()
	if count > c.seen {
		c.grown = now
	}
	c.seen = count
	n := count - min(c.told, count)
	if n == 0 || !c.toldAt.IsZero() && now.Sub(c.toldAt) < complaintInterval {
		return 0
	}
	c.told, c.toldAt = count, now
	return n
}

// recent reports whether there was one of late.
func (c *complaint) recent() bool {
	return !c.grown.IsZero() && time.Since(c.grown) < complaintRecent
}

// complaints are those about the inspector of a netns.
type complaints struct{ panics, overruns complaint }

// noticeInspector reports panics and overruns, at a bounded rate, and keeps what
// the status shows of them. The caller holds b.mu.
func (r *Registry) noticeInspector(b *binding, rec *state.Record, counted *api.Counters) {
	c, outcome := &b.complaints, b.outcome()
	if n := c.panics.look(counted.Panics); n > 0 {
		c.panics.said = cmp.Or(b.parts.TakePanic(), c.panics.said)
		r.report(slog.LevelError, api.EventPanic, rec, fmt.Sprintf(
			"the inspector panicked, packets %s: %d, it said %q", outcome, n, c.panics.said))
	}
	if n := c.overruns.look(counted.Overruns); n > 0 {
		r.report(slog.LevelWarn, api.EventOverload, rec, fmt.Sprintf(
			"the inspector exceeded its budget, batches %s: %d", outcome, n))
	}
	b.inspector.Store(c.problem())
}

// problem says what was wrong of late, nil for nothing.
func (c *complaints) problem() *string {
	var texts []string
	if c.panics.recent() {
		texts = append(texts, fmt.Sprintf("the inspector panicked within the last %s, %d times in "+
			"all, and said %q", complaintRecent, c.panics.seen, c.panics.said))
	}
	if c.overruns.recent() {
		texts = append(texts, fmt.Sprintf("the inspector exceeded its budget within the last %s, "+
			"with %d batches in all", complaintRecent, c.overruns.seen))
	}
	if len(texts) == 0 {
		return nil
	}
	text := strings.Join(texts, "; ")
	return &text
}

// outcome is what happens to packets that the inspector does not decide about.
func (b *binding) outcome() string {
	if b.parts.Bypass() {
		return "let pass unseen"
	}
	return "dropped"
}
