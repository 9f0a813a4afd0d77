// SPDX-License-Identifier: Apache-2.0

package eve

import (
	"container/list"
	"sync"
	"time"
)

// The limits of events, for each pod and rule.
const (
	Rate  = 10 // a second, in the long run
	Burst = 100
)

// refill is how long an empty bucket takes to be full.
const refill = Burst * time.Second / Rate

// Key is what a limit is for.
type Key struct {
	Pod  string // what tells it from all others
	Rule uint32 // its SignatureID
}

// bucket has what a key may still write. Level counts time: each event costs a tenth of a
// second, and a full bucket has ten.
type bucket struct {
	key        Key
	level      time.Duration
	at         time.Duration
	suppressed uint64
}

// Limiter lets through a burst of events of each pod and rule, and then a few a second. It
// is safe for concurrent use.
type Limiter struct {
	mu      sync.Mutex
	most    int
	buckets map[Key]*list.Element
	order   list.List // of *bucket, the one used last in front
	others  bucket    // for keys that have no room
	now     time.Duration
	total   uint64
}

// NewLimiter returns a limiter for so many keys at a time. Further ones share one bucket.
func NewLimiter(keys int) *Limiter {
	return &Limiter{
		most: keys, buckets: make(map[Key]*list.Element), others: bucket{level: refill},
	}
}

// Allow reports whether an event may be written, and how many of its key have not been
// since the last one that was. The time is any that only goes forward, such as that since
// the start.
func (l *Limiter) Allow(k Key, now time.Duration) (suppressed uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = max(l.now, now)
	b := l.bucket(k)
	suppressed, ok = b.take(l.now)
	if !ok {
		l.total++
	}
	return suppressed, ok
}

// Suppressed returns how many events were not allowed since the start.
func (l *Limiter) Suppressed() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

// bucket returns that of a key. A key that was quiet until its bucket was full makes room:
// it loses nothing but the count of what was suppressed.
func (l *Limiter) bucket(k Key) *bucket {
	if e := l.buckets[k]; e != nil {
		l.order.MoveToFront(e)
		return e.Value.(*bucket)
	}
	if len(l.buckets) < l.most {
		e := l.order.PushFront(&bucket{key: k, level: refill, at: l.now})
		l.buckets[k] = e
		return e.Value.(*bucket)
	}
	e := l.order.Back()
	if e == nil || l.now-e.Value.(*bucket).at < refill {
		return &l.others
	}
	b := e.Value.(*bucket)
	delete(l.buckets, b.key)
	*b = bucket{key: k, level: refill, at: l.now}
	l.buckets[k] = e
	l.order.MoveToFront(e)
	return b
}

// take pays for an event.
func (b *bucket) take(now time.Duration) (suppressed uint64, ok bool) {
	const price = time.Second / Rate
	// No more is added than fits: the difference of times may be any.
	b.level = min(refill, b.level+min(refill, now-b.at))
	b.at = now
	if b.level < price {
		b.suppressed++
		return 0, false
	}
	b.level -= price
	suppressed, b.suppressed = b.suppressed, 0
	return suppressed, true
}
