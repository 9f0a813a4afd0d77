// SPDX-License-Identifier: Apache-2.0

package boottime_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/internal/boottime"
)

// The clock is the one that the kernel shows as the uptime, which has hundredths
// of seconds.
func TestNow(t *testing.T) {
	before := boottime.Now()
	b, err := os.ReadFile("/proc/uptime")
	if err != nil {
		t.Fatal(err)
	}
	after := boottime.Now()
	uptime, err := time.ParseDuration(strings.Fields(string(b))[0] + "s")
	const hundredth = 10 * time.Millisecond
	if err != nil || uptime < before-hundredth || uptime > after+hundredth {
		t.Errorf("uptime %v, %v; between %v and %v", uptime, err, before, after)
	}
}

func TestID(t *testing.T) {
	id, err := boottime.ID()
	if again, _ := boottime.ID(); err != nil || len(id) != 36 || again != id {
		t.Errorf("boot %q, then %q, %v", id, again, err)
	}
}
