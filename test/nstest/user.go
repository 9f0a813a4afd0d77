// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

// sendEnv tells the program that it is to send a datagram there, and end.
const sendEnv = "NSTEST_SEND"

// SendAs has a process of that user send an empty datagram from the netns. It skips the
// test where there are no other users.
func (ns *NetNS) SendAs(tb testing.TB, uid uint32, to string) {
	tb.Helper()
	ns.send(tb, to, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}})
}

// SendInUserNS is SendAs for root of another user namespace, who is that user in this one.
func (ns *NetNS) SendInUserNS(tb testing.TB, uid int, to string) {
	tb.Helper()
	ids := []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
	ns.send(tb, to, &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids,
		Credential: &syscall.Credential{NoSetGroups: true},
	})
}

func (ns *NetNS) send(tb testing.TB, to string, attr *syscall.SysProcAttr) {
	tb.Helper()
	users, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		tb.Fatal(err)
	}
	if strings.Join(strings.Fields(string(users)), " ") != "0 0 4294967295" {
		tb.Skip("only root of the node can run a process as another user")
	}
	cmd := ns.Command("/proc/self/exe")
	cmd.Env, cmd.Dir, cmd.SysProcAttr = []string{sendEnv + "=" + to}, "/", attr
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("send as another user: %v: %s", err, out)
	}
}

// sendIfAsked is the process that send starts: it does not return there.
func sendIfAsked() {
	to, asked := os.LookupEnv(sendEnv)
	if !asked {
		return
	}
	c, err := net.Dial("udp", to)
	if err == nil {
		_, err = c.Write(nil)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}
