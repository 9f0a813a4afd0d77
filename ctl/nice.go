// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// niceValue is the nice value of commands that get packets one by one.
const niceValue = 15

// niceThreads lets all other processes go first: a command that shows packets must
// not take the processor from the daemon that inspects them. Linux has a nice value
// for each thread, which new threads inherit. Where it cannot be set, the command
// works all the same.
func niceThreads() {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, task := range tasks {
		if tid, err := strconv.Atoi(task.Name()); err == nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, tid, niceValue)
		}
	}
}
