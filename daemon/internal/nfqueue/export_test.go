// SPDX-License-Identifier: Apache-2.0

package nfqueue

import "time"

// SetClock gives the reader another clock, before a poller has it.
func (r *Reader) SetClock(now func() time.Duration) { r.clock = now }
