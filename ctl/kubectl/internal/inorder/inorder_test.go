// SPDX-License-Identifier: Apache-2.0

package inorder

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func at(ms int) time.Time {
	return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(ms) * time.Millisecond)
}

const window = 100 * time.Millisecond

// What has come is held for the window, and goes with what is older.
func TestWindow(t *testing.T) {
	q := New[string](window, 10)
	if _, held := q.Next(); held {
		t.Error("an empty queue holds something")
	}
	q.Add("b", at(2), at(10))
	q.Add("a", at(1), at(50)) // older, and later here
	q.Add("c", at(3), at(60))
	if due := q.Due(at(109)); len(due) > 0 {
		t.Errorf("due too early: %v", due)
	}
	if next, held := q.Next(); !held || !next.Equal(at(110)) {
		t.Errorf("next at %v, %v", next, held)
	}
	if diff := cmp.Diff([]string{"a", "b"}, q.Due(at(110))); diff != "" {
		t.Errorf("due (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"c"}, q.Due(at(160))); diff != "" {
		t.Errorf("due (-want +got):\n%s", diff)
	}
	q.Add("late", at(2), at(170))
	q.Add("e", at(5), at(180))
	if q.Late() != 1 {
		t.Errorf("%d late, want 1", q.Late())
	}
	if diff := cmp.Diff([]string{"late", "e"}, q.Rest()); diff != "" {
		t.Errorf("rest (-want +got):\n%s", diff)
	}
}

// Equal times keep the order in which they came.
func TestEqualTimes(t *testing.T) {
	q := New[int](window, 100)
	var want []int
	for i := range 50 {
		q.Add(i, at(1), at(i))
		want = append(want, i)
	}
	if diff := cmp.Diff(want, q.Rest()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// There is never more held than the limit.
func TestLimit(t *testing.T) {
	q := New[int](time.Hour, 3)
	var got []int
	for i := range 10 {
		q.Add(i, at(i), at(i))
		got = append(got, q.Due(at(i))...)
		if len(q.items) > 3 {
			t.Fatalf("%d are held", len(q.items))
		}
	}
	if diff := cmp.Diff([]int{0, 1, 2, 3, 4, 5, 6}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What comes less late than the window is in order, and nothing is lost or comes twice.
func TestOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	type one struct{ time, arrives int }
	var all []one
	for i := range 2000 {
		all = append(all, one{i, i + random.IntN(int(window.Milliseconds()))})
	}
	slices.SortStableFunc(all, func(a, b one) int { return a.arrives - b.arrives })
	q := New[int](window, 1_000_000)
	var got []int
	for _, o := range all {
		got = append(got, q.Due(at(o.arrives))...)
		q.Add(o.time, at(o.time), at(o.arrives))
	}
	got = append(got, q.Rest()...)
	if len(got) != len(all) || !slices.IsSorted(got) || q.Late() > 0 {
		t.Errorf("%d of %d, sorted %v, %d late", len(got), len(all), slices.IsSorted(got), q.Late())
	}
	if len(q.arrived) > 0 {
		t.Errorf("%d arrivals are kept", len(q.arrived))
	}
}
