// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"os"
	"strconv"
	"testing"
	"time"
)

// SlownessEnv is the variable that says how many times slower the machine is than
// one that the timeouts of the tests were made for.
const SlownessEnv = "NSQUEUE_SLOWNESS"

// Patient returns how long to wait on this machine for what takes d at most on
// a usual one. The functions of this package are patient by themselves.
func Patient(d time.Duration) time.Duration {
	slowness, err := strconv.ParseUint(os.Getenv(SlownessEnv), 10, 16)
	if err != nil || slowness == 0 {
		return d
	}
	return d * time.Duration(slowness)
}

// pollInterval is short enough for tests to feel immediate and long enough to
// leave the processor to what is waited for.
const pollInterval = 5 * time.Millisecond

// Poll calls cond until it returns true or the timeout is over, and returns
// whether it did. It is [Patient], and it is the one place where a test waits by the clock.
func Poll(timeout time.Duration, cond func() bool) bool {
	deadline := time.Now().Add(Patient(timeout))
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
