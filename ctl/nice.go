// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// niceValue is the nice value of commands that get packets one by one.
const niceValue = 15

// niceThreads lets everybody else go first: who looks at packets must not keep
// those waiting who inspect them. In Linux each thread has a nice value, which its
// own threads begin with. Where it cannot be had, the command works all the same.
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
