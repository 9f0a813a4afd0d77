// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"fmt"
	"os"
	"strconv"
	"syscall"

	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
)

// envReexec is the program that a process is to become.
const envReexec = "NSQUEUE_REEXEC"

// Reexec is the step between the supervisor and the daemon. The inherited
// descriptors are meant for one process ID, which the supervisor cannot know
// before there is one. It returns nil where the process is no such step, and
// otherwise only if it cannot go on. Call it first thing in main.
func Reexec() error {
	program := os.Getenv(envReexec)
	if program == "" {
		return nil
	}
	if err := os.Setenv(fdstore.EnvListenPID, strconv.Itoa(os.Getpid())); err != nil {
		return err
	}
	if err := os.Unsetenv(envReexec); err != nil {
		return err
	}
	if err := syscall.Exec(program, os.Args, os.Environ()); err != nil {
		return fmt.Errorf("execute %s: %w", program, err)
	}
	return nil
}
