// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// host is process 1, whose mounts are the node's.
const host = "/proc/1"

// mounts notes where the node has network namespaces mounted. Copies that a
// container keeps are none of a runtime's.
func (c *Census) mounts() error {
	text, err := os.ReadFile(filepath.Join(host, "mountinfo"))
	if err != nil {
		return err
	}
	for _, m := range netnsMounts(string(text)) {
		if c.paths[m.inode] == "" {
			c.paths[m.inode] = filepath.Join(host, "root", m.point)
		}
	}
	return nil
}

// nsMount is a mount of a network namespace.
type nsMount struct {
	inode
	point string
}

// netnsMounts reads a mountinfo file: after the numbers of the mount and of its
// parent come the device, the root within the file system, which for a netns is
// net:[INODE], and the mount point.
func netnsMounts(mountinfo string) []nsMount {
	var found []nsMount
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		text, isNet := strings.CutPrefix(fields[3], "net:[")
		ino, err := strconv.ParseUint(strings.TrimSuffix(text, "]"), 10, 64)
		if !isNet || err != nil {
			continue
		}
		dev, ok := device(fields[2])
		if !ok {
			continue
		}
		found = append(found, nsMount{inode{dev, ino}, unescape(fields[4])})
	}
	return found
}

// device reads MAJOR:MINOR.
func device(text string) (uint64, bool) {
	major, minor, _ := strings.Cut(text, ":")
	x, err := strconv.ParseUint(major, 10, 32)
	if err != nil {
		return 0, false
	}
	y, err := strconv.ParseUint(minor, 10, 32)
	return unix.Mkdev(uint32(x), uint32(y)), err == nil
}

// unescape undoes what the kernel does to blanks, newlines and backslashes.
func unescape(path string) string {
	return strings.NewReplacer(
		`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`, `\043`, "#").Replace(path)
}
