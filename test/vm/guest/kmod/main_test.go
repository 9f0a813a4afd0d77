// SPDX-License-Identifier: Apache-2.0

//go:build vmguest

// Package kmod has the tests of the kernel module. They load and unload it, so
// they run only in a guest of test/vm, as its root.
package kmod

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/test/nstest"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(play(role))
	}
	if _, err := os.Stat("/etc/programs.json"); err != nil {
		fmt.Fprintln(os.Stderr, "kmod: these tests run in a guest of test/vm only:", err)
		os.Exit(1)
	}
	if err := keepInitialNetns(); err != nil {
		fmt.Fprintln(os.Stderr, "kmod: keep the initial netns:", err)
		os.Exit(1)
	}
	nstest.Main(m)
}

// initialNetns is a path of the netns that the kernel has started with.
const initialNetns = "/tmp/initial-netns"

// keepInitialNetns binds this process's netns to that path. TestMain comes here
// again in the node that nstest makes, and finds the path taken.
func keepInitialNetns() error {
	file, err := os.OpenFile(initialNetns, os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return unix.Mount("/proc/self/ns/net", initialNetns, "", unix.MS_BIND, "")
}

// modulePath is where the image has the module.
func modulePath() (string, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", err
	}
	return "/lib/modules/" + unix.ByteSliceToString(name.Release[:]) + "/updates/nsqueue.ko", nil
}

func insmod(params string) error {
	path, err := modulePath()
	if err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return unix.FinitModule(int(file.Fd()), params, 0)
}

// parameters is where the module's parameters are.
const parameters = "/sys/module/nsqueue/parameters/"

// rmmod unloads the module whatever is armed, as an administrator would.
func rmmod() error {
	if err := writeFile(parameters+"queue_bypass", "1"); err != nil {
		return err
	}
	return deleteModule()
}

// deleteModule is rmmod while nothing has allowed packets to pass uninspected.
func deleteModule() error { return unix.DeleteModule("nsqueue", 0) }

func loaded() bool {
	_, err := os.Stat("/sys/module/nsqueue")
	return err == nil
}

// load has the module loaded until the test ends.
func load(t *testing.T, params string) {
	t.Helper()
	if err := insmod(params); err != nil {
		t.Fatalf("load nsqueue %s: %v", params, err)
	}
	unloadAtEnd(t)
}

func unloadAtEnd(t *testing.T) {
	t.Cleanup(func() {
		if loaded() {
			if err := rmmod(); err != nil {
				t.Errorf("unload nsqueue: %v", err)
			}
		}
	})
}

// status is /proc/net/nsqueue of a netns.
type status map[string]string

func (n *netns) status(t *testing.T) status {
	t.Helper()
	s, err := n.tryStatus()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (n *netns) tryStatus() (status, error) {
	var data []byte
	err := n.Try(func() (err error) {
		data, err = os.ReadFile("/proc/thread-self/net/nsqueue")
		return err
	})
	if err != nil {
		return nil, err
	}
	s := status{}
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		key, value, found := strings.Cut(lines.Text(), ": ")
		if !found {
			return nil, fmt.Errorf("line %q of /proc/net/nsqueue", lines.Text())
		}
		s[key] = value
	}
	return s, nil
}

// count returns a counter.
func (s status) count(t *testing.T, key string) int {
	t.Helper()
	var n int
	if _, err := fmt.Sscan(s[key], &n); err != nil {
		t.Fatalf("counter %s: %v", key, err)
	}
	return n
}

// grown returns by how much the counters have grown since before.
func (n *netns) grown(t *testing.T, before status, keys ...string) []int {
	t.Helper()
	now := n.status(t)
	var by []int
	for _, key := range keys {
		by = append(by, now.count(t, key)-before.count(t, key))
	}
	return by
}

func (n *netns) set(t *testing.T, name, value string) {
	t.Helper()
	if err := n.trySet(name, value); err != nil {
		t.Fatalf("set %s to %q: %v", name, value, err)
	}
}

func (n *netns) trySet(name, value string) error {
	return n.Try(func() error { return writeFile("/proc/sys/net/nsqueue/"+name, value) })
}

func (n *netns) get(t *testing.T, name string) string {
	t.Helper()
	var data []byte
	n.must(t, func() (err error) {
		data, err = os.ReadFile("/proc/sys/net/nsqueue/" + name)
		return err
	})
	return strings.TrimSuffix(string(data), "\n")
}

// writeFile is one write, as a shell's echo makes it.
func writeFile(path, value string) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = unix.Write(int(file.Fd()), []byte(value))
	return err
}
