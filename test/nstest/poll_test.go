// SPDX-License-Identifier: Apache-2.0

package nstest_test

import (
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/test/nstest"
)

func TestEventually(t *testing.T) {
	calls := 0
	nstest.Eventually(t, time.Minute, "third call", func() bool { calls++; return calls == 3 })
	if nstest.Poll(time.Millisecond, func() bool { return false }) {
		t.Error("Poll reports a condition that never held")
	}
}

func TestPatient(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"": time.Second, "1": time.Second, "10": 10 * time.Second,
		"0": time.Second, "-2": time.Second, "much": time.Second,
	} {
		t.Setenv(nstest.SlownessEnv, value)
		if got := nstest.Patient(time.Second); got != want {
			t.Errorf("patient for %v where %s=%q, want %v", got, nstest.SlownessEnv, value, want)
		}
	}
}
