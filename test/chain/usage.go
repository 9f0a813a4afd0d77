// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Usage is what a process holds of the kernel.
type Usage struct {
	// Files are the targets of its descriptors, sorted.
	Files []string
	// Threads is their number.
	Threads int
	// ResidentKiB is its memory, with all of the program: how much of that is
	// resident is between the kernel and what else runs there.
	ResidentKiB int
}

// HeldSince returns the descriptors that u has and before did not, by kind.
func (u Usage) HeldSince(before Usage) []string {
	extra := slices.Clone(u.Files)
	for _, f := range before.Files {
		if i := slices.Index(extra, f); i >= 0 {
			extra = slices.Delete(extra, i, i+1)
		}
	}
	return extra
}

// UsageOf looks at a process of the node.
func UsageOf(pid int) (Usage, error) {
	var u Usage
	proc := filepath.Join("/proc", fmt.Sprint(pid))
	program, err := os.Stat(filepath.Join(proc, "exe"))
	if err != nil {
		return u, err
	}
	entries, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		return u, err
	}
	for _, e := range entries {
		// A descriptor may be closed between the two calls.
		if target, err := os.Readlink(filepath.Join(proc, "fd", e.Name())); err == nil {
			kind, _, _ := strings.Cut(target, ":[")
			u.Files = append(u.Files, kind)
		}
	}
	slices.Sort(u.Files)
	status, err := os.Open(filepath.Join(proc, "status"))
	if err != nil {
		return u, err
	}
	defer status.Close()
	for s := bufio.NewScanner(status); s.Scan(); {
		_, _ = fmt.Sscanf(s.Text(), "Threads: %d", &u.Threads)
		_, _ = fmt.Sscanf(s.Text(), "RssAnon: %d kB", &u.ResidentKiB)
	}
	u.ResidentKiB += int(program.Size() >> 10)
	return u, nil
}
