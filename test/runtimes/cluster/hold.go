// SPDX-License-Identifier: Apache-2.0

// Package cluster makes nodes on one machine: each has its own network, mount
// and UTS namespace and a root of its own, and all are joined by a switch in
// the caller's netns. It works inside a throw-away node of package nstest only,
// with which all of it ends.
//
// A node's root is the machine's with other folders laid over it, and writes
// go to memory: what a program installs or changes there, the machine never
// sees.
package cluster

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// holdEnv tells the program that it is to hold a node, and which.
const holdEnv = "NSQUEUE_TEST_HOLD_NODE"

// holding is what the process that holds a node has to know.
type holding struct {
	Name string
	// Dir is where the root is put together.
	Dir string
	// Over is a folder that is laid over the machine's root.
	Over string
	// Bind are folders of the machine that the node sees where they are.
	Bind []string
	// Disk are folders that outlive the holder, below Dir.
	Disk []string
	// Alone says that the holder is process 1 of the node.
	Alone bool
}

// Hold returns at once in an ordinary process. In one that was started to hold a
// node it does that, and exits when its parent closes its standard input. Call
// it first thing in main.
func Hold() {
	text := os.Getenv(holdEnv)
	if text == "" {
		return
	}
	if err := hold(text); err != nil {
		fmt.Fprintln(os.Stderr, "hold node:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func hold(text string) error {
	var h holding
	if err := json.Unmarshal([]byte(text), &h); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(h.Name)); err != nil {
		return os.NewSyscallError("sethostname", err)
	}
	if err := h.enterRoot(); err != nil {
		return err
	}
	if err := setUp(); err != nil {
		return err
	}
	if h.Alone {
		defer reap()()
	}
	if _, err := os.Stdout.WriteString("ready\n"); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// enterRoot puts the root together and makes it this process's.
func (h holding) enterRoot() error {
	root := filepath.Join(h.Dir, "root")
	if err := mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := h.overlay("", "/"); err != nil {
		return err
	}
	if err := h.layOver(); err != nil {
		return err
	}
	if err := h.furnish(root); err != nil {
		return err
	}
	old := filepath.Join(root, "run/machine")
	if err := mkdirs(old); err != nil {
		return err
	}
	if err := unix.PivotRoot(root, old); err != nil {
		return os.NewSyscallError("pivot_root", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := unix.Unmount("/run/machine", unix.MNT_DETACH); err != nil {
		return os.NewSyscallError("umount /run/machine", err)
	}
	// Runtimes expect that all processes of the node see what they mount.
	return mount("none", "/", "", unix.MS_REC|unix.MS_SHARED, "")
}

// reap collects the processes that the node's programs leave to its process 1, until
// the function that it returns is called.
func reap() (stop func()) {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range ended {
			var status syscall.WaitStatus
			for pid := 1; pid > 0; {
				pid, _ = syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
			}
		}
	}()
	return func() {
		signal.Stop(ended)
		close(ended)
		<-done
	}
}

// overlay mounts the lower folders below the node's root, to be written to.
func (h holding) overlay(dir string, lower ...string) error {
	layer := filepath.Join(h.Dir, "layer", dir)
	upper, work := filepath.Join(layer, "upper"), filepath.Join(layer, "work")
	target := filepath.Join(h.Dir, "root", dir)
	if err := mkdirs(upper, work, target); err != nil {
		return err
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s",
		strings.Join(lower, ":"), upper, work)
	return mount("overlay", target, "overlay", 0, options)
}

// layOver lays the folder in h.Over over the root, once for each folder in it:
// it is most likely below the machine's root itself, and an overlay refuses
// layers of which one is in the other.
func (h holding) layOver() error {
	entries, err := os.ReadDir(h.Over)
	if err != nil {
		return err
	}
	for _, e := range entries {
		err := h.overlay(e.Name(), filepath.Join(h.Over, e.Name()), filepath.Join("/", e.Name()))
		if err != nil {
			return err
		}
	}
	return nil
}

// furnish mounts what lies below the root.
func (h holding) furnish(root string) error {
	for _, dir := range []string{
		"/run", "/tmp", "/etc/cni", "/var/lib/cni", "/var/lib/containerd",
		"/var/lib/containers", "/var/lib/etcd",
	} {
		if slices.Contains(h.Disk, dir) {
			continue
		}
		if err := mkdirs(filepath.Join(root, dir)); err != nil {
			return err
		}
		if err := mount("tmpfs", filepath.Join(root, dir), "tmpfs", 0, "mode=755"); err != nil {
			return err
		}
	}
	if err := mount("sysfs", filepath.Join(root, "sys"), "sysfs", 0, ""); err != nil {
		return err
	}
	for _, dir := range append([]string{"/dev", "/sys/fs/cgroup"}, h.Bind...) {
		if err := bind(dir, filepath.Join(root, dir)); err != nil {
			return err
		}
	}
	for _, dir := range h.Disk {
		disk := filepath.Join(h.Dir, "disk", dir)
		if err := mkdirs(disk); err != nil {
			return err
		}
		if err := bind(disk, filepath.Join(root, dir)); err != nil {
			return err
		}
	}
	return h.mountProc(filepath.Join(root, "proc"))
}

// mountProc gives a node of its own processes a /proc that shows them, and in which
// nobody changes the machine's settings.
func (h holding) mountProc(proc string) error {
	if !h.Alone {
		return bind("/proc", proc)
	}
	if err := mount("proc", proc, "proc", 0, ""); err != nil {
		return err
	}
	for _, name := range []string{
		"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
		"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
	} {
		value, err := os.ReadFile(filepath.Join(proc, "sys", name))
		if err != nil {
			return err
		}
		file := filepath.Join(h.Dir, strings.ReplaceAll(name, "/", "_"))
		if err := os.WriteFile(file, value, 0o644); err != nil {
			return err
		}
		if err := mount(file, filepath.Join(proc, "sys", name), "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	return nil
}

// bind makes the folder appear at the target, too.
func bind(dir, target string) error {
	if err := mkdirs(target); err != nil {
		return err
	}
	return mount(dir, target, "", unix.MS_BIND|unix.MS_REC, "")
}

// setUp makes the node's netns one that forwards.
func setUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	for _, name := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		if err := os.WriteFile("/proc/sys/net/"+name, []byte("1"), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func mkdirs(dirs ...string) error {
	for _, d := range dirs {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	return nil
}

func mount(source, target, fstype string, flags uintptr, options string) error {
	if err := unix.Mount(source, target, fstype, flags, options); err != nil {
		return &os.PathError{Op: "mount " + fstype, Path: target, Err: err}
	}
	return nil
}

// start runs this very program as the holder of a node and returns once that
// is ready.
func (h holding) start() (*exec.Cmd, io.Closer, error) {
	text, err := json.Marshal(h)
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), holdEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWUTS,
	}
	if h.Alone {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWPID | unix.CLONE_NEWIPC
	}
	leash, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	word := make([]byte, len("ready\n"))
	if _, err := io.ReadFull(out, word); err != nil {
		_ = leash.Close()
		return nil, nil, fmt.Errorf("holder ended: %w", cmd.Wait())
	}
	return cmd, leash, nil
}
