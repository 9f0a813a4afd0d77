// SPDX-License-Identifier: Apache-2.0

package nfqueue

import "time"

// clock tells the time since some instant, which is more than 0. Unlike the wall
// clock it is not set, and unlike the time since boot it stands still while the
// machine is suspended, as an inspector does.
type clock func() time.Duration

func newClock() clock {
	epoch := time.Now().Add(-1)
	return func() time.Duration { return time.Since(epoch) }
}
