// SPDX-License-Identifier: Apache-2.0

//go:build vmguest

package kmod

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A netns is held by its descriptor.
type netns struct{ file *os.File }

// onThread runs f on a thread that nothing else will use, and that ends with it.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

func openNetns(path string) (*netns, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &netns{file}, nil
}

func makeNetns() (n *netns, err error) {
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		n, err = openNetns("/proc/thread-self/ns/net")
		return err
	})
	return n, err
}

func newNetns(t *testing.T) *netns {
	t.Helper()
	n, err := makeNetns()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.file.Close() })
	n.must(t, func() error { return linkUp("lo") })
	return n
}

func initialNetns(t *testing.T) *netns {
	t.Helper()
	n, err := openNetns("/proc/1/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.file.Close() })
	return n
}

// do runs f with the calling thread in the netns.
func (n *netns) do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

func (n *netns) must(t *testing.T, f func() error) {
	t.Helper()
	if err := n.do(f); err != nil {
		t.Fatal(err)
	}
}

// command runs a program in the netns and returns what it wrote.
func (n *netns) command(name string, args ...string) (string, error) {
	var out []byte
	err := n.do(func() (err error) {
		out, err = exec.Command(name, args...).CombinedOutput()
		return err
	})
	return string(out), err
}

// A node has a bridge, and pods on it, as a bridge plugin makes them.
type node struct {
	*netns
	pods int
}

type pod struct {
	*netns
	v4, v6 netip.Addr
}

var (
	nodeV4 = netip.MustParseAddr("10.230.96.1")
	nodeV6 = netip.MustParseAddr("fd00:230::1")
)

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{netns: newNetns(t)}
	n.must(t, func() error {
		if err := addBridge("cni0"); err != nil {
			return err
		}
		return linkAddr("cni0", nodeV4, nodeV6)
	})
	return n
}

// newPod returns once the pod and the node reach each other.
func (n *node) newPod(t *testing.T) *pod {
	t.Helper()
	p, err := n.makePod()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.file.Close() })
	return p
}

func (n *node) makePod() (*pod, error) {
	ns, err := makeNetns()
	if err != nil {
		return nil, err
	}
	n.pods++
	p := &pod{
		netns: ns,
		v4:    netip.AddrFrom4([4]byte{10, 230, 96 + byte(n.pods/250), byte(2 + n.pods%250)}),
		v6:    netip.MustParseAddr(fmt.Sprintf("fd00:230::%x", 0x100+n.pods)),
	}
	if err := n.connect(p); err != nil {
		ns.file.Close()
		return nil, err
	}
	return p, nil
}

func (n *node) connect(p *pod) error {
	host := fmt.Sprintf("veth%d", n.pods)
	err := n.do(func() error {
		if err := addVeth(host, "eth0", p.file); err != nil {
			return err
		}
		if err := setMaster(host, "cni0"); err != nil {
			return err
		}
		return linkUp(host)
	})
	if err != nil {
		return err
	}
	return p.do(func() error {
		if err := linkUp("lo"); err != nil {
			return err
		}
		return linkAddr("eth0", p.v4, p.v6)
	})
}

// eventually waits for a condition that nothing can signal.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
		time.Sleep(2 * time.Millisecond) // between two looks
	}
}
