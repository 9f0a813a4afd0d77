// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
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

// inspectorLog logs what is wrong with the inspector, at a bounded rate. It is safe
// for concurrent use.
type inspectorLog struct {
	log              *slog.Logger
	budget           time.Duration
	panics, overruns limiter
}

// panicked logs a panic with its stack.
func (l *inspectorLog) panicked(reader *nfqueue.Reader, said any) {
	if suppressed, due := l.panics.next(); due {
		l.log.Error("the inspector panicked; the packet got the failure policy's verdict",
			ofQueue(reader), slog.String("panic", nfqueue.PanicText(said)),
			slog.Uint64("suppressed", suppressed), slog.String("stack", string(debug.Stack())))
	}
}

// overran logs that the inspector took too long.
func (l *inspectorLog) overran(reader *nfqueue.Reader) {
	if suppressed, due := l.overruns.next(); due {
		l.log.Warn("the inspector exceeded its budget; the batch got the failure policy's verdict",
			ofQueue(reader), slog.Duration("budget", l.budget),
			slog.Uint64("suppressed", suppressed))
	}
}

// ofQueue names the pod and the queue of a reader.
func ofQueue(r *nfqueue.Reader) slog.Attr {
	a := r.Attachment()
	pod := api.Pod{Namespace: a.PodNamespace, Name: a.PodName}
	return slog.GroupAttrs("", slog.String("containerID", a.ContainerID),
		slog.String("ifname", a.Ifname), slog.String("pod", pod.String()),
		slog.Int("queue", int(r.Number())))
}

// complaint is what is known of one kind of trouble with the inspector of a
// netns, whose lock guards it.
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
