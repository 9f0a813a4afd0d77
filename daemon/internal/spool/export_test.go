// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"context"
	"time"
)

// RunEvery is Run with another interval.
func RunEvery(ctx context.Context, d *Drain, interval time.Duration) { d.runEvery(ctx, interval) }
