// SPDX-License-Identifier: Apache-2.0

package text

import (
	"fmt"
	"time"
)

// Age prints a duration in its largest unit, as kubectl does.
func Age(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/day)
}

// Plural returns n with the noun that goes with it.
func Plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// Process names a process, which is 0 where nsqueued cannot see it.
func Process(pid int) string {
	if pid == 0 {
		return "a process of another PID namespace"
	}
	return fmt.Sprintf("process %d", pid)
}

// Size prints bytes in their largest unit, to three digits.
func Size(bytes int) string {
	switch {
	case bytes >= 1<<30:
		return fmt.Sprintf("%.3g GiB", float64(bytes)/(1<<30))
	case bytes >= 1<<20:
		return fmt.Sprintf("%.3g MiB", float64(bytes)/(1<<20))
	}
	return fmt.Sprintf("%.3g KiB", float64(bytes)/(1<<10))
}
