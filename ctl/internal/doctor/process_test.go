// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"strings"
	"testing"
)

// What /proc says is the kernel's, but any user may choose a mount point's name.
func FuzzControlGroups(f *testing.F) {
	f.Add([]byte("31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"), []byte("0::/a\n"))
	f.Add([]byte(`32 31 0:29 /x /a\040b rw shared:1 - cgroup cgroup rw,cpu`), []byte("4:cpu,cpuacct:/x/y"))
	f.Fuzz(func(t *testing.T, mounts, groups []byte) {
		for _, h := range parseMounts(mounts) {
			if h.mount == "" || h.root == "" || strings.Contains(h.mount, `\040`) {
				t.Errorf("%+v", h)
			}
			if group, ok := groupIn(groups, h.v2); ok && !strings.Contains(string(groups), group) {
				t.Errorf("group %q of %q", group, groups)
			}
		}
	})
}
