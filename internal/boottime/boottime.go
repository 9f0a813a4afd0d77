// SPDX-License-Identifier: Apache-2.0

// Package boottime reads the time since boot. It only grows; the wall clock may be
// set forward or back at any moment. Use it for instants that another process reads,
// from a file or a message; within one process, the difference of two values of
// time.Now is as good.
//
// It imports nothing but the standard library, because it is linked into the CNI
// plugin.
package boottime

import (
	"bytes"
	"os"
	"syscall"
	"time"
	"unsafe"
)

// clockBoottime is CLOCK_BOOTTIME (linux/time.h).
const clockBoottime = 7

// Now returns the time since boot, suspension included. It compares with times of
// the same boot only.
func Now() time.Duration {
	var ts syscall.Timespec
	// The clock is there since Linux 2.6.39 and the pointer is good: no error.
	_, _, _ = syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockBoottime,
		uintptr(unsafe.Pointer(&ts)), 0)
	return time.Duration(ts.Nano())
}

// ID returns the kernel's ID of this boot.
func ID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return string(bytes.TrimSpace(b)), err
}
