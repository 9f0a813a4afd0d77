// SPDX-License-Identifier: Apache-2.0

package registry

import "time"

// Timings is told of attachments that were made or restored, and of those that
// were ended, how long that took and whether it failed. It is called
// concurrently.
type Timings interface {
	Attached(took time.Duration, err error)
	Detached(took time.Duration, err error)
}

// noTimings forgets what it is told.
type noTimings struct{}

func (noTimings) Attached(time.Duration, error) {}
func (noTimings) Detached(time.Duration, error) {}
