// SPDX-License-Identifier: Apache-2.0

package apitest

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// OwnNetns is the path of the netns that the test runs in.
const OwnNetns = "/proc/self/ns/net"

// OtherNetns returns the path of a new netns. It lives until the test ends. A
// user without privileges gets it in a user namespace of its own.
func OtherNetns(tb testing.TB) string {
	tb.Helper()
	cmd := exec.Command("cat") // waits for the end of its input
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	cmd.SysProcAttr = attr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatalf("start a process in a new netns: %v", err)
	}
	tb.Cleanup(func() {
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil {
			tb.Errorf("end the process in the netns: %v", err)
		}
	})
	return fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)
}
