// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"fmt"
	"time"
)

// Duration is a duration that configuration files write as 1m30s.
type Duration time.Duration

// UnmarshalJSON reads the form of [time.ParseDuration].
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("duration %s: want text such as \"1m30s\"", b)
	}
	parsed, err := time.ParseDuration(s)
	if err != nil {
		return err
	}
	*d = Duration(parsed)
	return nil
}

// MarshalJSON writes what UnmarshalJSON reads.
func (d Duration) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Duration(d).String())
}

// minBudget leaves an honest inspector time for a batch of 64 packets, and the
// watchdog's ticks far apart.
const minBudget = 20 * time.Millisecond

// Bounds of coalescing: a shorter wait is over before the kernel's timers are,
// a longer one would be felt.
const (
	minCoalesce = 20 * time.Microsecond
	maxCoalesce = time.Millisecond
)

// validate accepts 0 and what is within bounds; no upper bound where high is 0.
func (d Duration) validate(field string, low, high time.Duration) error {
	t := time.Duration(d)
	switch {
	case t == 0 || t >= low && (high == 0 || t <= high):
		return nil
	case high == 0:
		return fmt.Errorf("%s %v: want 0s or at least %v", field, t, low)
	}
	return fmt.Errorf("%s %v: want 0s, or %v to %v", field, t, low, high)
}
