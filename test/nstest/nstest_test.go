// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nstest_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/test/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func TestNodeIsEmpty(t *testing.T) {
	links, err := os.ReadDir("/sys/class/net")
	if err != nil {
		t.Fatal(err)
	}
	if len(links) != 1 || links[0].Name() != "lo" {
		t.Errorf("/sys/class/net: got %v, want lo alone", links)
	}
	for _, dir := range []string{"/etc/cni", "/var/lib/cni"} {
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 0 {
			t.Errorf("%s: got %v, %v, want an empty directory", dir, entries, err)
		}
	}
}

func TestPairPings(t *testing.T) {
	a, b := nstest.Pair(t)
	for _, dst := range []netip.Addr{b.IPv4(), b.IPv6()} {
		if got := a.Ping(t, dst, 3, time.Minute); got != 3 {
			t.Errorf("ping %s: %d of 3 answered", dst, got)
		}
	}
	if got := a.Ping(t, netip.MustParseAddr("10.99.0.77"), 1, 100*time.Millisecond); got != 0 {
		t.Errorf("ping of an address that no interface has: %d answers", got)
	}
}

func TestLineForwards(t *testing.T) {
	a, _, b := nstest.Line(t)
	for _, dst := range []netip.Addr{b.IPv4(), b.IPv6()} {
		if got := a.Ping(t, dst, 3, time.Minute); got != 3 {
			t.Errorf("ping %s: %d of 3 answered", dst, got)
		}
	}
}

func TestSocketsAreUsableOutside(t *testing.T) {
	a, b := nstest.Pair(t)
	server := b.ListenUDP(t, "[::]:7000")
	client := a.DialUDP(t, net.JoinHostPort(b.IPv4().String(), "7000"), nstest.Mark(5))
	if _, err := client.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 16)
	if n, _, err := server.ReadFrom(buf); err != nil || string(buf[:n]) != "hello" {
		t.Errorf("receive: got %q, %v", buf[:n], err)
	}

	listener := b.ListenTCP(t, "[::]:7001")
	conn := a.DialTCP(t, net.JoinHostPort(b.IPv6().String(), "7001"))
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	if got, want := accepted.RemoteAddr().String(), conn.LocalAddr().String(); got != want {
		t.Errorf("accepted from %s, want %s", got, want)
	}
}

// A listener is seen in its netns only, and looking takes its port from no server.
func TestListens(t *testing.T) {
	a, b := nstest.Pair(t)
	for _, addr := range []string{"127.0.0.1:5201", "[::]:5202"} {
		port := netip.MustParseAddrPort(addr).Port()
		if a.Listens(port) {
			t.Errorf("port %d is listened on before there is a server", port)
		}
		l := a.ListenTCP(t, addr)
		if !a.Listens(port) || b.Listens(port) {
			t.Errorf("%s: seen in its netns %t, in another %t", addr, a.Listens(port), b.Listens(port))
		}
		nstest.Must(t, l.Close())
		if a.Listens(port) {
			t.Errorf("port %d is listened on after the server", port)
		}
	}
}

func TestDoLeavesThreadsWhereTheyWere(t *testing.T) {
	ns := nstest.New(t)
	before := netnsID(t, "/proc/thread-self/ns/net")
	for range 50 {
		ns.Do(func() {
			if got := netnsID(t, "/proc/thread-self/ns/net"); got == before {
				t.Error("Do runs in the node's netns")
			}
		})
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		if got := netnsID(t, "/proc/self/task/"+task.Name()+"/ns/net"); got != before {
			t.Errorf("thread %s stayed in another netns", task.Name())
		}
	}
}

func TestOpenKeepsNetns(t *testing.T) {
	ns, err := nstest.Create("test")
	if err != nil {
		t.Fatal(err)
	}
	want := netnsID(t, ns.Path())
	kept := nstest.Open(t, ns.Path())
	if err := ns.Remove(); err != nil {
		t.Fatal(err)
	}
	kept.Do(func() {
		if got := netnsID(t, "/proc/thread-self/ns/net"); got != want {
			t.Errorf("entered %s, want %s", got, want)
		}
	})
}

func TestCommandRunsInside(t *testing.T) {
	ns := nstest.New(t)
	out := ns.Run(t, "/proc/self/exe", "-test.run=TestHelperPrintsNetns", "-test.v")
	if want := netnsID(t, ns.Path()); !strings.Contains(out, want) {
		t.Errorf("command ran elsewhere: want %s in\n%s", want, out)
	}
}

// TestHelperPrintsNetns is what the test above runs.
func TestHelperPrintsNetns(t *testing.T) { t.Log(netnsID(t, "/proc/self/ns/net")) }

func netnsID(t *testing.T, path string) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Error(err)
	}
	return fmt.Sprintf("netns:%d", st.Ino)
}
