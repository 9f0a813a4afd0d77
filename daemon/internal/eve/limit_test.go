// SPDX-License-Identifier: Apache-2.0

package eve

import (
	"testing"
	"time"
)

// allowed returns how many of n events at a time are allowed, and the sum of the suppressed
// ones that they tell of.
func allowed(l *Limiter, k Key, n int, now time.Duration) (count int, told uint64) {
	for range n {
		if suppressed, ok := l.Allow(k, now); ok {
			count++
			told += suppressed
		}
	}
	return count, told
}

func TestLimit(t *testing.T) {
	l := NewLimiter(10)
	a, b := Key{"a", 1}, Key{"a", 2}
	for _, step := range []struct {
		key   Key
		n     int
		at    time.Duration
		count int
		told  uint64
	}{
		{a, 150, 0, Burst, 0},
		{b, 100, 0, Burst, 0}, // another rule has a limit of its own
		{a, 1, 99 * time.Millisecond, 0, 0},
		{a, 5, 100 * time.Millisecond, 1, 51},
		{a, 1, 50 * time.Millisecond, 0, 0}, // a step back adds nothing
		{a, 30, 1100 * time.Millisecond, Rate, 5},
		{a, 150, time.Hour, Burst, 20},
		{a, 1, 1<<63 - 1, 1, 50},
	} {
		if count, told := allowed(l, step.key, step.n, step.at); count != step.count || told != step.told {
			t.Errorf("%+v: %d allowed, %d told", step, count, told)
		}
	}
	if n := l.Suppressed(); n != 50+1+4+1+20+50 {
		t.Errorf("%d suppressed in all", n)
	}
}

// More keys than there is room for share one bucket, until a key was quiet.
func TestLimitOfKeys(t *testing.T) {
	l := NewLimiter(2)
	keys := []Key{{"a", 1}, {"b", 1}, {"c", 1}, {"d", 1}}
	want := []int{Burst, Burst, Burst, 0}
	for i, k := range keys {
		if n, _ := allowed(l, k, 150, time.Second); n != want[i] {
			t.Errorf("%+v: %d allowed, want %d", k, n, want[i])
		}
	}
	if n, _ := allowed(l, keys[0], 1, 2*time.Second); n != 1 {
		t.Error("a key that has room shares the bucket of the others")
	}
	if n, told := allowed(l, keys[3], 150, time.Second+refill); n != Burst || told != 0 {
		t.Errorf("in the room of a quiet key %d were allowed, %d told", n, told)
	}
	if len(l.buckets) != 2 || l.order.Len() != 2 || l.buckets[keys[0]] == nil {
		t.Errorf("%d buckets, %d in order", len(l.buckets), l.order.Len())
	}
	if n, _ := allowed(NewLimiter(0), keys[0], 150, 0); n != Burst {
		t.Errorf("without room %d were allowed", n)
	}
}

func TestLimitAllocations(t *testing.T) {
	l, now := NewLimiter(10), time.Duration(0)
	k := Key{"a", 1}
	l.Allow(k, now)
	if n := testing.AllocsPerRun(100, func() { now++; l.Allow(k, now) }); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
}

func BenchmarkAllow(b *testing.B) {
	l, k := NewLimiter(10), Key{"a", 1}
	b.ReportAllocs()
	for b.Loop() {
		l.Allow(k, 0)
	}
}
