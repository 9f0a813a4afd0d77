// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
)

// buffers says whether queues have the receive buffers that the configuration
// asks for: packets that do not fit pass uninspected, or are lost.
func (e *examination) buffers() {
	b := &e.status.Buffers
	if b.Each == 0 {
		e.add(Unknown, checkBuffers, "", "not checked: this nsqueued does not report them", "")
		return
	}
	good := true
	warn := func(what, remedy string) {
		good = false
		e.add(Warning, checkBuffers, "", what, remedy)
	}
	if b.Possible < b.Each {
		warn(fmt.Sprintf("the kernel gives each queue %s instead of %s: nsqueued may not exceed "+
			"net.core.rmem_max", text.Size(b.Possible), text.Size(b.Each)),
			fmt.Sprintf("Run sysctl -w net.core.rmem_max=%d, or give nsqueued CAP_NET_ADMIN "+
				"outside of user namespaces.", b.Each/2))
	}
	if b.Each < b.Wanted {
		warn(fmt.Sprintf("%s share %s: each has %s instead of %s",
			text.Plural(b.Queues, "queue"), text.Size(b.Total), text.Size(b.Each),
			text.Size(b.Wanted)),
			"Raise queue.receiveBufferTotal if the node has the memory, or lower "+
				"queue.receiveBuffer.")
	}
	if memory := e.memory(); memory > 0 && b.Total > memory/2 {
		warn(fmt.Sprintf("queue.receiveBufferTotal (%s) is more than half of the node's memory "+
			"(%s)", text.Size(b.Total), text.Size(memory)),
			fmt.Sprintf("Set queue.receiveBufferTotal to %d or less.", memory/4))
	}
	if good {
		e.ok(checkBuffers, "", "%s for each of %s, at most %s in all",
			text.Size(b.Each), text.Plural(b.Queues, "queue"), text.Size(b.Total))
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
