// SPDX-License-Identifier: Apache-2.0

// Package inorder puts what comes from several nodes into the order of time. What has come
// is held for a while, because something older may be on its way. It starts nothing and
// reads no clock.
package inorder

import (
	"container/heap"
	"time"
)

// Queue holds items. Make one with [New]. One goroutine uses it at a time.
type Queue[T any] struct {
	window time.Duration
	limit  int

	items   items[T]
	arrived []arrival
	gone    int // of arrived, from its beginning
	number  uint64
	last    time.Time // of what was given out
	late    uint64
}

// arrival is when an item has come, and its own time.
type arrival struct{ at, time time.Time }

// New returns a queue that holds each item for a time, and at most so many items.
func New[T any](window time.Duration, limit int) *Queue[T] {
	return &Queue[T]{window: window, limit: limit}
}

// Add adds an item with its own time, which comes now.
func (q *Queue[T]) Add(v T, t, now time.Time) {
	if t.Before(q.last) {
		q.late++
	}
	q.number++
	heap.Push(&q.items, item[T]{v, t, q.number})
	q.arrived = append(q.arrived, arrival{now, t})
}

// Late returns how many items came when younger ones had been given out.
func (q *Queue[T]) Late() uint64 { return q.late }

// Due returns the items whose time has come, the oldest first: those that were held long
// enough, what is older than these, and what is too much.
func (q *Queue[T]) Due(now time.Time) []T {
	var due []T
	for q.gone < len(q.arrived) && now.Sub(q.arrived[q.gone].at) >= q.window {
		due = q.upTo(due, q.arrived[q.gone].time)
		q.gone++
	}
	for len(q.items) > q.limit {
		due = q.pop(due)
	}
	if q.gone > len(q.arrived)/2 {
		q.arrived = append(q.arrived[:0], q.arrived[q.gone:]...)
		q.gone = 0
	}
	return due
}

// Next returns when something will be due, and false if nothing is held.
func (q *Queue[T]) Next() (time.Time, bool) {
	if len(q.items) == 0 {
		return time.Time{}, false
	}
	return q.arrived[q.gone].at.Add(q.window), true
}

// Rest returns all that is left.
func (q *Queue[T]) Rest() []T {
	var rest []T
	for len(q.items) > 0 {
		rest = q.pop(rest)
	}
	q.arrived, q.gone = nil, 0
	return rest
}

// upTo adds what is not younger than a time.
func (q *Queue[T]) upTo(due []T, t time.Time) []T {
	for len(q.items) > 0 && !q.items[0].time.After(t) {
		due = q.pop(due)
	}
	return due
}

func (q *Queue[T]) pop(due []T) []T {
	i := heap.Pop(&q.items).(item[T])
	if i.time.After(q.last) {
		q.last = i.time
	}
	return append(due, i.value)
}

type item[T any] struct {
	value  T
	time   time.Time
	number uint64 // in which they came
}

// items is a heap, the oldest first, and of equal times the one that came first.
type items[T any] []item[T]

func (h items[T]) Len() int { return len(h) }

func (h items[T]) Less(i, j int) bool {
	if h[i].time.Equal(h[j].time) {
		return h[i].number < h[j].number
	}
	return h[i].time.Before(h[j].time)
}

func (h items[T]) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push is for the heap.
func (h *items[T]) Push(v any) { *h = append(*h, v.(item[T])) }

// Pop is for the heap.
func (h *items[T]) Pop() any {
	last := len(*h) - 1
	v := (*h)[last]
	(*h)[last] = item[T]{}
	*h = (*h)[:last]
	return v
}
