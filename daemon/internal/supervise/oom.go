// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
)

// neverKilled is the value of oom_score_adj with which the kernel kills a process for want
// of memory under no circumstances, not even with all others of its control group
// (memory.oom.group), as the kubelet wants it for containers.
const neverKilled = "-1000"

// oomScore keeps this process from being killed together with its daemon, for what the
// daemon uses. The supervisor itself uses next to nothing.
type oomScore struct {
	proc string // where the proc file system is mounted
	// before is the value to give back to others; nil where this process' own was not
	// changed.
	before []byte
}

func (o *oomScore) path(process string) string {
	return filepath.Join(o.proc, process, "oom_score_adj")
}

// lower makes the change, which takes CAP_SYS_RESOURCE.
func (o *oomScore) lower(log *slog.Logger) {
	before, err := os.ReadFile(o.path("self"))
	before = bytes.TrimSpace(before)
	if err == nil && string(before) == neverKilled {
		return
	}
	if err == nil {
		err = os.WriteFile(o.path("self"), []byte(neverKilled), 0)
	}
	if err != nil {
		log.Info("a lack of memory may end the supervisor together with the daemon: "+
			"oom_score_adj cannot be lowered (CAP_SYS_RESOURCE)", slog.Any("error", err))
		return
	}
	o.before = before
}

// undo takes the change back, for a program that is to be executed in this process and will
// make it again.
func (o *oomScore) undo() {
	if o.before != nil {
		_ = os.WriteFile(o.path("self"), o.before, 0) // to raise it is always allowed
		o.before = nil
	}
}

// giveBack gives a child what it would have without the change.
func (o *oomScore) giveBack(pid int) error {
	if o.before == nil {
		return nil
	}
	return os.WriteFile(o.path(strconv.Itoa(pid)), o.before, 0)
}
