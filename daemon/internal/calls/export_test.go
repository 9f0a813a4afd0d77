// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"context"
	"time"
)

// RunEvery is Run with another interval.
func RunEvery(ctx context.Context, s *Sequencer, interval time.Duration) { s.runEvery(ctx, interval) }
