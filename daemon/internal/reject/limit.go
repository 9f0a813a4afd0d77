// SPDX-License-Identifier: Apache-2.0

package reject

import "time"

// How many packets of a netns are answered: as many as the kernel limits its own
// errors of ICMP to by default (net.ipv4.icmp_msgs_per_sec and icmp_msgs_burst).
const (
	perSecond = 1000
	burst     = 50
)

// limit lets so many packets a second through. What a quiet time leaves is saved up
// to the burst.
type limit struct {
	left int
	at   time.Duration // up to when it is earned
}

// newLimit begins with a burst.
func newLimit(now time.Duration) limit { return limit{left: burst, at: now} }

// allows reports whether one more packet may be answered.
func (l *limit) allows(now time.Duration) bool {
	const each = time.Second / perSecond
	if earned := (now - l.at) / each; earned > 0 {
		l.left = int(min(burst, time.Duration(l.left)+earned))
		l.at += earned * each
	}
	if l.left == 0 {
		return false
	}
	l.left--
	return true
}
