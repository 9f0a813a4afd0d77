// SPDX-License-Identifier: Apache-2.0

// Package kernel tells which Linux is running, for what cannot be found out by
// trying it.
package kernel

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Release returns the name of the running release, such as 6.12.5-amd64.
func Release() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", os.NewSyscallError("uname", err)
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}

// AtLeast reports whether a release is that version or a newer one. One that
// cannot be read is not.
func AtLeast(release string, major, minor int) bool {
	var x, y int
	if n, _ := fmt.Sscanf(release, "%d.%d", &x, &y); n != 2 {
		return false
	}
	return x > major || x == major && y >= minor
}

// TakesPriority reports whether verdicts may change a packet's priority, by
// which they ask to settle flows. An older kernel ignores the request, and lets
// pass what it was to drop.
func TakesPriority(release string) bool { return AtLeast(release, 5, 18) }
