// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"os"

	"golang.org/x/sys/unix"
)

// GracePeriod waits until each packet that was on its way through hooks or into a queue
// is past them or in it. The kernel's packet path runs in RCU read sections, and a
// global membarrier waits for the end of all that have begun.
func GracePeriod() error {
	const membarrierGlobal = 1
	_, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0)
	if errno == 0 || errno == unix.ENOSYS || errno == unix.EINVAL { // EINVAL: nohz_full
		return nil
	}
	return os.NewSyscallError("membarrier", errno)
}
