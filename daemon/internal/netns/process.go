// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// ProcessIn returns the path under which the network namespace with this device
// and inode is seen because some process is in it; empty if none is. The caller
// checks the identity of what he opens there: inodes are used again.
func ProcessIn(dev, ino uint64) (string, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if _, err := strconv.ParseUint(e.Name(), 10, 32); err != nil {
			continue
		}
		path := "/proc/" + e.Name() + "/ns/net"
		var st unix.Stat_t
		// Processes end meanwhile.
		if unix.Stat(path, &st) == nil && st.Dev == dev && st.Ino == ino {
			return path, nil
		}
	}
	return "", nil
}
