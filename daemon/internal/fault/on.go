// SPDX-License-Identifier: Apache-2.0

//go:build faultpoints

package fault

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// At kills or stops the process if it is the point's turn. The file is removed first,
// so that the next process lives.
func At(p Point) {
	file := os.Getenv(Variable)
	if file == "" {
		return
	}
	text, err := os.ReadFile(file)
	name, stop := strings.CutPrefix(strings.TrimSpace(string(text)), Stop)
	if err != nil || name != string(p) || os.Remove(file) != nil {
		return
	}
	if stop {
		// To this thread, which is stopped before it goes on.
		_ = syscall.Tgkill(os.Getpid(), syscall.Gettid(), syscall.SIGSTOP)
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // the signal comes before this is left
}

// Hurried returns how long to wait for another process, which a test may know to be
// stopped.
func Hurried(d time.Duration) time.Duration {
	by, err := strconv.Atoi(os.Getenv(Haste))
	if err != nil || by < 1 {
		return d
	}
	return d / time.Duration(by)
}
