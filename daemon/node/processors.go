// SPDX-License-Identifier: Apache-2.0

package node

import (
	"os"
	"runtime"
)

// addProcessor gives Go's scheduler one processor more than the machine has for this
// process, and returns what takes it away. The goroutines that read queues wait in the
// kernel without the scheduler's knowledge, each of which keeps a processor meanwhile,
// and one has to be left for all others. Where the environment says how many there are,
// that counts.
func addProcessor() (remove func()) {
	if os.Getenv("GOMAXPROCS") != "" {
		return func() {}
	}
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	return runtime.SetDefaultGOMAXPROCS
}
