// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// netnsDir is where `ip netns` and the container runtimes keep theirs.
const netnsDir = "/run/netns"

// currentNetns is the netns of the thread that opens it.
const currentNetns = "/proc/thread-self/ns/net"

// NetNS is a network namespace of the test's own. Its methods may be called
// concurrently.
type NetNS struct {
	path       string
	ipv4, ipv6 netip.Addr
}

// New returns a new netns with lo up. It is removed when the test ends.
func New(tb testing.TB) *NetNS {
	tb.Helper()
	ns, err := Create("test")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := ns.Remove(); err != nil {
			tb.Error(err)
		}
	})
	return ns
}

// Open returns the netns at path, which may be a process's below /proc, and
// keeps it until the test ends. Its own path is good in this process only.
func Open(tb testing.TB, path string) *NetNS {
	tb.Helper()
	f, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = f.Close() })
	return &NetNS{path: fmt.Sprintf("/proc/self/fd/%d", f.Fd())}
}

// Create makes a netns with lo up, mounted at a path that begins with
// /run/netns/PREFIX- and is unique in this node. The caller removes it.
func Create(prefix string) (*NetNS, error) {
	if _, err := os.Stat(nodeMark); err != nil {
		return nil, errors.New("create netns: this process is not in a node, see Enter")
	}
	if err := os.MkdirAll(netnsDir, 0o755); err != nil {
		return nil, fmt.Errorf("create netns: %w", err)
	}
	f, err := os.CreateTemp(netnsDir, prefix+"-*")
	if err != nil {
		return nil, fmt.Errorf("create netns: %w", err)
	}
	_ = f.Close()
	ns := &NetNS{path: f.Name()}
	err = onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("unshare", err)
		}
		if err := mount(currentNetns, ns.path, "", unix.MS_BIND, ""); err != nil {
			return err
		}
		return linkUp("lo")
	})
	if err != nil {
		_ = ns.Remove()
		return nil, fmt.Errorf("create netns: %w", err)
	}
	return ns, nil
}

// Remove unmounts the netns. The kernel frees it when nothing else, such as a
// process or a socket, holds it.
func (ns *NetNS) Remove() error {
	err := unix.Unmount(ns.path, unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) { // not a mount point
		return &os.PathError{Op: "unmount", Path: ns.path, Err: err}
	}
	return os.Remove(ns.path)
}

// Path returns where the netns is mounted.
func (ns *NetNS) Path() string { return ns.path }

// IPv4 returns eth0's address in a topology of this package, else zero.
func (ns *NetNS) IPv4() netip.Addr { return ns.ipv4 }

// IPv6 returns eth0's global address in a topology of this package, else zero.
func (ns *NetNS) IPv6() netip.Addr { return ns.ipv6 }

// File opens the netns until the test ends.
func (ns *NetNS) File(tb testing.TB) *os.File {
	tb.Helper()
	f, err := os.Open(ns.path)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = f.Close() })
	return f
}

// Do runs fn in the netns and panics where that cannot be entered. Goroutines
// that fn starts are not in the netns, and fn must not end its goroutine, as
// tb.Fatal does.
func (ns *NetNS) Do(fn func()) {
	err := ns.Try(func() error { fn(); return nil })
	if err != nil {
		panic(err)
	}
}

// Try runs fn in the netns as Do does, and returns its error.
func (ns *NetNS) Try(fn func() error) error {
	return onOwnThread(func() error {
		f, err := os.Open(ns.path)
		if err != nil {
			return err
		}
		err = setns(f)
		_ = f.Close()
		if err != nil {
			return fmt.Errorf("enter netns %s: %w", ns.path, err)
		}
		return fn()
	})
}

// Within runs fn in the netns at path as [NetNS.Try] does.
func Within(path string, fn func() error) error { return (&NetNS{path: path}).Try(fn) }

// onOwnThread runs fn in a goroutine that has its thread for itself, and puts
// the thread's netns back afterwards. A thread that cannot be put back is
// thrown away. It is never the main thread, whose netns is the process's own
// to every process that looks into /proc.
func onOwnThread(fn func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			result <- onOwnThread(fn) // while this goroutine occupies the main thread
			return
		}
		origin, err := os.Open(currentNetns)
		if err != nil {
			result <- err
			return
		}
		defer origin.Close()
		err = fn()
		if setns(origin) == nil {
			runtime.UnlockOSThread()
		}
		result <- err
	}()
	return <-result
}

func setns(f *os.File) error {
	return os.NewSyscallError("setns", unix.Setns(int(f.Fd()), unix.CLONE_NEWNET))
}

// Cmd is a command that runs in a netns, otherwise like an [exec.Cmd].
type Cmd struct {
	*exec.Cmd
	ns *NetNS
}

// Command returns a command that will run in the netns.
func (ns *NetNS) Command(name string, args ...string) *Cmd {
	return &Cmd{Cmd: exec.Command(name, args...), ns: ns}
}

// Start is [exec.Cmd.Start] in the netns: a process is born in the netns of
// the thread that starts it.
func (c *Cmd) Start() error { return c.ns.Try(c.Cmd.Start) }

// Run is [exec.Cmd.Run] in the netns.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output is [exec.Cmd.Output] in the netns. Standard error is not captured.
func (c *Cmd) Output() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout = &out
	err := c.Run()
	return out.Bytes(), err
}

// CombinedOutput is [exec.Cmd.CombinedOutput] in the netns.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.Bytes(), err
}

// Run runs a command in the netns, fails the test if it does not succeed, and
// returns its output.
func (ns *NetNS) Run(tb testing.TB, name string, args ...string) string {
	tb.Helper()
	out, err := ns.Command(name, args...).CombinedOutput()
	if err != nil {
		tb.Fatalf("run %s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
