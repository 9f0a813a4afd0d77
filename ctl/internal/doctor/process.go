// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/nsqueue/nsqueue/internal/fdcontrol"
)

// peer is the process that serves the socket, as seen from here.
type peer struct {
	pid int // 0 where it cannot be told, with err
	uid uint32
	err error
}

// findPeer returns the process that serves the socket. The number that a process knows itself
// by is that of its own PID namespace: a process here is only accepted as the
// daemon if the kernel says that both are the same.
func findPeer(ctx context.Context, socket, proc string, own int) peer {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return peer{err: err}
	}
	defer conn.Close()
	cred, err := fdcontrol.Peer(conn.(*net.UnixConn))
	if err != nil {
		return peer{err: err}
	}
	p := peer{pid: int(cred.Pid), uid: cred.Uid}
	if p.err = isProcess(proc, p.pid, own); p.err != nil {
		p.pid = 0
	}
	return p
}

// isProcess says whether the process with a number here knows itself by another.
func isProcess(proc string, here, own int) error {
	if here == 0 {
		return fmt.Errorf("nsqueued (process %d in its own PID namespace) is not visible from "+
			"here", own)
	}
	text, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(here), "status"))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		numbers, ok := strings.CutPrefix(line, "NSpid:")
		if !ok {
			continue
		}
		if f := strings.Fields(numbers); len(f) > 0 && f[len(f)-1] == strconv.Itoa(own) {
			return nil
		}
	}
	return fmt.Errorf("process %d serves the socket, but nsqueued says that it is process %d",
		here, own)
}

// cpuLimit looks for a limit on the processor time of the daemon. Packets wait
// while it is throttled.
func (e *examination) cpuLimit() {
	if e.peer.err != nil {
		e.notChecked(checkCPU, "", e.peer.err)
		return
	}
	path, limit, err := cpuLimitOf(e.Proc, e.peer.pid)
	switch {
	case err != nil:
		e.notChecked(checkCPU, "", err)
	case limit != "":
		e.add(Wrong, checkCPU, path,
			"the control group limits nsqueued to "+limit+": when it has used that up, packets "+
				"of all pods wait for the rest of the period",
			e.remedy("Remove CPUQuota= from the unit, or limits.cpu from the container.",
				"Remove limits.cpu from the container (helm upgrade, or kubectl edit), and from "+
					"the LimitRange of its namespace."))
	default:
		e.ok(checkCPU, "", "no control group limits process %d", e.peer.pid)
	}
}

// cpuLimitOf returns the file that limits a process and what it allows, both
// empty where there is no limit. A group is bound by those above it as well.
func cpuLimitOf(proc string, pid int) (path, limit string, err error) {
	groups, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return "", "", err
	}
	mounts, err := os.ReadFile(filepath.Join(proc, "self", "mountinfo"))
	if err != nil {
		return "", "", err
	}
	hierarchies := parseMounts(mounts)
	if len(hierarchies) == 0 {
		return "", "", errors.New("no cgroup file system is mounted here")
	}
	for _, h := range hierarchies {
		group, ok := groupIn(groups, h.v2)
		if !ok {
			continue
		}
		below, err := filepath.Rel(h.root, group)
		outside := strings.HasPrefix(group, "/..") || below == ".." ||
			strings.HasPrefix(below, "../")
		if err != nil || outside {
			return "", "", fmt.Errorf("control group %s of process %d is not visible from here",
				group, pid)
		}
		if path, limit, err := h.limit(below); err != nil || limit != "" {
			return path, limit, err
		}
	}
	return "", "", nil
}

// hierarchy is a mounted tree of control groups that can limit processor time.
type hierarchy struct {
	root, mount string
	v2          bool
}

// limit returns what limits a group, or one above it.
func (h *hierarchy) limit(group string) (path, limit string, err error) {
	for dir := group; ; dir = filepath.Dir(dir) {
		path, limit, err = limitIn(filepath.Join(h.mount, dir), h.v2)
		if err != nil || limit != "" || dir == "." {
			return path, limit, err
		}
	}
}

// parseMounts finds them in /proc/self/mountinfo: "ID PARENT DEV ROOT MOUNT
// OPTIONS… - TYPE SOURCE SUPEROPTIONS".
func parseMounts(text []byte) []hierarchy {
	var found []hierarchy
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		before, after, ok := strings.Cut(s.Text(), " - ")
		f, super := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 5 || len(super) < 3 {
			continue
		}
		h := hierarchy{root: unescape(f[3]), mount: unescape(f[4]), v2: super[0] == "cgroup2"}
		if h.v2 || super[0] == "cgroup" && hasWord(super[2], "cpu") {
			found = append(found, h)
		}
	}
	return found
}

// unescape undoes how the kernel writes what would end a field.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

func hasWord(list, word string) bool {
	for w := range strings.SplitSeq(list, ",") {
		if w == word {
			return true
		}
	}
	return false
}

// groupIn returns a process's group from its /proc/PID/cgroup, whose lines are
// "ID:CONTROLLERS:PATH": version 2 is the line without controllers.
func groupIn(text []byte, v2 bool) (group string, ok bool) {
	for line := range strings.Lines(string(text)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) < 3 {
			continue
		}
		if v2 && f[0] == "0" && f[1] == "" || !v2 && hasWord(f[1], "cpu") {
			return f[2], true
		}
	}
	return "", false
}

// limitIn returns what limits a group. The topmost one has no such file.
func limitIn(dir string, v2 bool) (path, limit string, err error) {
	path = filepath.Join(dir, "cpu.cfs_quota_us")
	if v2 {
		path = filepath.Join(dir, "cpu.max")
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", "", nil
	}
	if err != nil {
		return "", "", err
	}
	f := strings.Fields(string(text))
	if len(f) == 0 || f[0] == "max" || f[0] == "-1" {
		return "", "", nil
	}
	if v2 {
		if len(f) < 2 {
			return "", "", fmt.Errorf("read %s: %q is no limit", path, text)
		}
		return path, fmt.Sprintf("%s of each %s microseconds", f[0], f[1]), nil
	}
	return path, f[0] + " microseconds of each period", nil
}
