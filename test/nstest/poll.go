// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"testing"
	"time"
)

// pollInterval is short enough for tests to feel immediate and long enough to
// leave the processor to what is waited for.
const pollInterval = 5 * time.Millisecond

// Poll calls cond until it returns true or the timeout is over, and returns
// whether it did. It is the one place where a test waits by the clock.
func Poll(timeout time.Duration, cond func() bool) bool {
	deadline := time.Now().Add(timeout)
	for !cond() {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(pollInterval)
	}
	return true
}

// Eventually fails the test if cond does not become true within the timeout.
// The message names what was waited for.
func Eventually(tb testing.TB, timeout time.Duration, what string, cond func() bool) {
	tb.Helper()
	if !Poll(timeout, cond) {
		tb.Fatalf("%s: not within %v", what, timeout)
	}
}
