// SPDX-License-Identifier: Apache-2.0

//go:build !faultpoints

package fault

import "time"

// At is a point.
func At(Point) {}

// Hurried returns how long to wait for another process.
func Hurried(d time.Duration) time.Duration { return d }
