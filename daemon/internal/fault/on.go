// SPDX-License-Identifier: Apache-2.0

//go:build faultpoints

// Package fault names the points of an attachment's life at which a test can
// kill the daemon.
package fault

import (
	"os"
	"strings"
	"syscall"
)

// Variable is the environment variable that names a file with the name of the
// point at which the process is to die.
const Variable = "NSQUEUE_FAULT"

// At kills the process if it is the point's turn. The file is removed first, so
// that the next process lives.
func At(point string) {
	file := os.Getenv(Variable)
	if file == "" {
		return
	}
	text, err := os.ReadFile(file)
	if err != nil || strings.TrimSpace(string(text)) != point {
		return
	}
	if os.Remove(file) == nil {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal comes before this is left
	}
}
