// SPDX-License-Identifier: Apache-2.0

//go:build vmguest

package kmod

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A role is what this binary does when a test starts it again with few rights.
const roleVariable = "NSQUEUE_GUEST_ROLE"

func play(role string) int {
	if role != "userns" {
		if err := keepOnly(unix.CAP_NET_ADMIN); err != nil {
			fmt.Println("drop capabilities:", err)
			return 1
		}
	}
	if role == "reader" {
		return playReader()
	}
	failed := 0
	for path, value := range map[string]string{
		"/proc/sys/net/nsqueue/enabled":        "0",
		"/proc/sys/net/nsqueue/bypass":         "1",
		"/proc/sys/net/nsqueue/directions":     "forward",
		"/proc/sys/net/nsqueue/queue_num":      "81",
		"/proc/sys/net/nsqueue/generation":     "1",
		"/proc/sys/net/nsqueue/settle_timeout": "10",
		"/proc/sys/net/nsqueue/settle_size":    "1",
		parameters + "queue_bypass":            "1",
		parameters + "settle_total":            "1",
	} {
		err := writeFile(path, value)
		if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
			fmt.Printf("write %s: %v, expected EPERM\n", path, err)
			failed = 1
		}
	}
	if err := deleteModule(); !errors.Is(err, unix.EPERM) {
		fmt.Printf("rmmod: %v, expected EPERM\n", err)
		failed = 1
	}
	if _, err := os.ReadFile("/proc/self/net/nsqueue"); err != nil {
		fmt.Println("read the counters:", err)
		failed = 1
	}
	return failed
}

// keepOnly leaves uid 0 with one capability, as a runtime leaves a container.
// Rights are a thread's own, so every thread drops its.
func keepOnly(capability uint) error {
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if c != uintptr(capability) {
			_, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0)
			if errno != 0 {
				return os.NewSyscallError("prctl", errno)
			}
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{}
	data[0].Permitted = 1 << capability
	data[0].Effective = 1 << capability
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET,
		uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0)
	if errno != 0 {
		return os.NewSyscallError("capset", errno)
	}
	return nil
}

func TestNetAdminCannotDisarm(t *testing.T) {
	load(t, "")
	p := newNode(t).newPod(t)
	p.set(t, "enabled", "1")
	cmd := p.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"=net_admin")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	expectArmed(t, p.netns)
}

func expectArmed(t *testing.T, n *netns) {
	t.Helper()
	s := n.status(t)
	if s["enabled"] != "1" || s["bypass"] != "0" || s["directions"] != "all" ||
		s["queue_num"] != "80" || s["generation"] != "0" || s["settle_timeout"] != "60000" ||
		s["settle_size"] != "65536" {
		t.Errorf("the netns was changed: %v", s)
	}
}

// A netns that belongs to a user namespace has the files, the host's root can
// arm it, and the root of that user namespace cannot disarm it.
func TestUserNamespaceCannotDisarm(t *testing.T) {
	load(t, "")
	cmd := exec.Command("/bin/sh", "-c", "read go; exec /bin/kmod.test")
	cmd.Env = append(os.Environ(), roleVariable+"=userns")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n := openNetns(t, fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid))
	n.set(t, "enabled", "1")
	fmt.Fprintln(stdin, "go")
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, out.String())
	}
	expectArmed(t, n)
}
