// SPDX-License-Identifier: Apache-2.0

package nfqueue_test

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
)

// inUserNamespace is set where the test runs once more, as root of a user namespace
// of its own.
const inUserNamespace = "NFQUEUE_TEST_USER_NAMESPACE"

// A process with CAP_NET_ADMIN outside of user namespaces gets the buffer that it
// asks for, any other gets net.core.rmem_max, doubled.
func TestGrantedBuffer(t *testing.T) {
	want := nfqueue.DefaultReceiveBuffer
	if limit := os.Getenv(inUserNamespace); limit != "" {
		most, err := strconv.Atoi(limit)
		if err != nil {
			t.Fatal(err)
		}
		want = 2 * most
	}
	got, err := nfqueue.GrantedBuffer(nfqueue.DefaultReceiveBuffer)
	if err != nil || got != want {
		t.Errorf("granted %d, %v, want %d", got, err, want)
	}
	if want != nfqueue.DefaultReceiveBuffer || os.Getenv(inUserNamespace) != "" {
		return
	}
	limit, err := os.ReadFile("/proc/sys/net/core/rmem_max")
	if err != nil {
		t.Fatal(err)
	}
	again := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestGrantedBuffer$")
	again.Env = append(os.Environ(), inUserNamespace+"="+strings.TrimSpace(string(limit)))
	again.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	if out, err := again.CombinedOutput(); err != nil {
		t.Errorf("in a user namespace: %v\n%s", err, out)
	}
}
