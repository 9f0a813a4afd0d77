// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"log/slog"
	"os"
	"time"

	"github.com/nsqueue/nsqueue/daemon/internal/program"
)

// How many lines of a program are logged: some at once, and then so many a second.
const (
	lineBurst  = 100
	lineRate   = 10
	lineRefill = time.Second / lineRate
)

// follow logs what a program prints, until it ends.
func (k *Keeper) follow(output *os.File) {
	k.prints = output
	k.output.Go(func() {
		defer output.Close()
		limit := lineLimit{left: lineBurst, last: time.Now()}
		program.Lines(output, func(line string) {
			ok, suppressed := limit.allow(time.Now())
			if !ok {
				return
			}
			attrs := []any{slog.String("line", line)}
			if suppressed > 0 {
				attrs = append(attrs, slog.Int("suppressed", suppressed))
			}
			k.log.Info("program prints", attrs...)
		})
	})
}

// lineLimit limits how many lines are logged.
type lineLimit struct {
	left       int
	last       time.Time
	suppressed int
}

// allow reports whether a line is logged, and how many before it were not.
func (l *lineLimit) allow(now time.Time) (ok bool, suppressed int) {
	if more := int(now.Sub(l.last) / lineRefill); more > 0 {
		l.left = min(l.left+more, lineBurst)
		l.last = l.last.Add(time.Duration(more) * lineRefill)
	}
	if l.left == 0 {
		l.suppressed++
		return false, 0
	}
	l.left--
	suppressed, l.suppressed = l.suppressed, 0
	return true, suppressed
}
