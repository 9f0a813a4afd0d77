// SPDX-License-Identifier: Apache-2.0

package options

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/view"
)

// Loads is which loads of attachments are shown, and how often.
type Loads struct {
	Sort     string
	Interval time.Duration
	Once     bool
	Limit    int
}

// AddTo gives the command the flags.
func (o *Loads) AddTo(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.Sort, "sort", view.LoadColumns()[0],
		"`COLUMN` to sort by: packets, bits, drops, settled,\ntime or pod")
	flags.DurationVar(&o.Interval, "interval", time.Second, "`TIME` between two samples")
	flags.BoolVar(&o.Once, "once", false, "stop after the first interval")
	flags.IntVar(&o.Limit, "limit", 20, "show at most `N` attachments, 0: all")
}

// leastInterval keeps the calls themselves from costing much.
const leastInterval = 100 * time.Millisecond

// Compare returns the order of loads, or says what is wrong with the flags.
func (o *Loads) Compare() (func(a, b view.Load) int, error) {
	compare, err := view.CompareLoads(o.Sort)
	switch {
	case err != nil:
		return nil, err
	case o.Interval < leastInterval:
		return nil, fmt.Errorf("interval %s: want at least %s", o.Interval, leastInterval)
	case o.Limit < 0:
		return nil, fmt.Errorf("limit %d: want 0 or more", o.Limit)
	}
	return compare, nil
}
