// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// buffers says whether queues have the receive buffers that they are to have:
// what does not fit is let pass unseen, or lost.
func (e *examination) buffers() {
	b := &e.status.Buffers
	if b.Each == 0 {
		e.add(Unknown, checkBuffers, "", "not checked: nsqueued does not say", "")
		return
	}
	good := true
	warn := func(what, remedy string) {
		good = false
		e.add(Warning, checkBuffers, "", what, remedy)
	}
	if b.Possible < b.Each {
		warn(fmt.Sprintf("the kernel grants each queue %s of %s: nsqueued may not exceed "+
			"net.core.rmem_max", Size(b.Possible), Size(b.Each)),
			fmt.Sprintf("sysctl -w net.core.rmem_max=%d, or give nsqueued CAP_NET_ADMIN outside "+
				"of user namespaces.", b.Each/2))
	}
	if b.Each < b.Wanted {
		warn(fmt.Sprintf("%s share %s: each has %s instead of %s",
			count(b.Queues, "queue"), Size(b.Total), Size(b.Each), Size(b.Wanted)),
			"Raise queue.receiveBufferTotal if the node has the memory, or lower "+
				"queue.receiveBuffer.")
	}
	if memory := e.memory(); memory > 0 && b.Total > memory/2 {
		warn(fmt.Sprintf("queue.receiveBufferTotal (%s) is more than half of the node's memory "+
			"(%s)", Size(b.Total), Size(memory)),
			fmt.Sprintf("Set queue.receiveBufferTotal to %d or less.", memory/4))
	}
	if good {
		e.ok(checkBuffers, "", "%s for each of %s, at most %s in all",
			Size(b.Each), count(b.Queues, "queue"), Size(b.Total))
	}
}

// memory returns the node's, 0 where it cannot be told.
func (e *examination) memory() int {
	text, err := os.ReadFile(filepath.Join(e.Proc, "meminfo"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		var kib int
		if n, _ := fmt.Sscanf(line, "MemTotal: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	return 0
}

// Size prints bytes as people do.
func Size(bytes int) string {
	switch {
	case bytes >= 1<<30:
		return fmt.Sprintf("%.3g GiB", float64(bytes)/(1<<30))
	case bytes >= 1<<20:
		return fmt.Sprintf("%.3g MiB", float64(bytes)/(1<<20))
	}
	return fmt.Sprintf("%.3g KiB", float64(bytes)/(1<<10))
}
