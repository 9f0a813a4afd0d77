// SPDX-License-Identifier: Apache-2.0

//go:build netns

package registry_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/fdstore/fdstoretest"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// container is what a daemon in a container has of the node.
type container struct {
	// Propagation: the node's mounts below /run/netns appear in the container.
	Propagation bool
	// HostPID: the container is in the node's PID namespace.
	HostPID bool
	// Ptrace: the container has CAP_SYS_PTRACE.
	Ptrace bool
	// Mounted: the node has the pod's netns mounted, not only a process in it.
	Mounted bool
	// PIDNamespace is the node's.
	PIDNamespace uint64
}

func (c container) String() string {
	return fmt.Sprintf("mounted=%t,propagation=%t,hostPID=%t,ptrace=%t",
		c.Mounted, c.Propagation, c.HostPID, c.Ptrace)
}

// podPath is where the node may have the pod's netns mounted.
const podPath = "/run/netns/living"

// containerEnv has the container in which a process of this test is.
const containerEnv = "NSQUEUE_TEST_CONTAINER"

// What the two sides tell each other, in lines.
const (
	entered = "entered: the container has its mounts"
	lives   = "lives: the pod is there"
	kept    = "kept: the pod stays attached"
	ended   = "ended: the pod is gone"
)

// A living pod stays attached whatever the daemon's container lacks: while the daemon
// runs, after a restart with the descriptors of a supervisor, and after one without.
// What is missing is named. Where nothing is missing that it takes to see that a pod is
// gone, the pod is detached then.
func TestLivingPodStaysInContainer(t *testing.T) {
	nstest.ShareNetnsDirectory(t)
	for _, mounted := range []bool{true, false} {
		for has := range 8 {
			c := container{
				Mounted: mounted, Propagation: has&1 != 0, HostPID: has&2 != 0, Ptrace: has&4 != 0,
			}
			t.Run(c.String(), func(t *testing.T) { testContainer(t, c) })
		}
	}
}

// testContainer is the node's side.
func testContainer(t *testing.T, c container) {
	pod, process := hiddenPod(t)
	c.PIDNamespace = (&daemon{t: t}).pidNamespace()
	inside := enterContainer(t, c, pod)
	inside.await(entered)
	unmount := func() {}
	if c.Mounted {
		unmount = mountOnce(t, pod, podPath)
	}
	inside.say(lives)
	inside.await(kept)
	end(process)
	unmount()
	inside.say(ended)
	nstest.Must(t, inside.cmd.Wait())
}

// contained is the process in the container, as the node sees it.
type contained struct {
	t   *testing.T
	cmd *exec.Cmd
	to  io.Writer
	out *bufio.Scanner
	log bytes.Buffer
}

// enterContainer starts TestInContainer in a container. The netns, which is mounted
// nowhere, is its first descriptor.
func enterContainer(t *testing.T, c container, pod *os.File) *contained {
	t.Helper()
	text, err := json.Marshal(c)
	nstest.Must(t, err)
	program, err := os.Executable()
	nstest.Must(t, err)
	argv := []string{program, "-test.run=^TestInContainer$", "-test.v"}
	if !c.Ptrace {
		argv = append([]string{"setpriv", "--bounding-set", "-sys_ptrace"}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), containerEnv+"="+string(text))
	cmd.ExtraFiles = []*os.File{pod}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	if !c.HostPID {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWPID
	}
	inside := &contained{t: t, cmd: cmd}
	cmd.Stderr = &inside.log
	inside.to, err = cmd.StdinPipe()
	nstest.Must(t, err)
	out, err := cmd.StdoutPipe()
	nstest.Must(t, err)
	inside.out = bufio.NewScanner(out)
	nstest.Must(t, cmd.Start())
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	return inside
}

func (c *contained) say(line string) {
	_, err := fmt.Fprintln(c.to, line)
	nstest.Must(c.t, err)
}

// await waits for a line. What comes before it is the log of the test inside.
func (c *contained) await(line string) {
	c.t.Helper()
	for c.out.Scan() {
		if strings.Contains(c.out.Text(), line) {
			return
		}
		c.t.Log(c.out.Text())
	}
	c.t.Fatalf("the container ended without %q: %v\n%s", line, c.out.Err(), c.log.String())
}

// mountOnce mounts a netns at a path and returns what unmounts it, by the end of the
// test at the latest.
func mountOnce(t *testing.T, netns *os.File, path string) func() {
	t.Helper()
	nstest.Must(t, os.WriteFile(path, nil, 0o600))
	source := "/proc/self/fd/" + strconv.Itoa(int(netns.Fd()))
	nstest.Must(t, unix.Mount(source, path, "", unix.MS_BIND, ""))
	once := func() {
		if unix.Unmount(path, unix.MNT_DETACH) == nil {
			nstest.Must(t, os.Remove(path))
		}
	}
	t.Cleanup(once)
	return once
}

// TestInContainer is the container's side, which TestLivingPodStaysInContainer starts.
// It does nothing elsewhere.
func TestInContainer(t *testing.T) {
	text := os.Getenv(containerEnv)
	if text == "" {
		return
	}
	var c container
	nstest.Must(t, json.Unmarshal([]byte(text), &c))
	nstest.Must(t, c.furnish())
	node := bufio.NewScanner(os.Stdin)
	fmt.Println(entered)
	awaitNode(t, node, lives)
	d := start(t, inspect.AcceptAll{})
	d.node, d.supervisor = c.PIDNamespace, fdstoretest.New(t)
	d.restart()
	req := request("one", nil, api.Fail)
	req.NetnsPath = podPath
	_, err := d.Attach(t.Context(), req, os.NewFile(podDescriptor, podPath))
	nstest.Must(t, err)
	d.wantLiving(c)
	d.restart()
	d.wantLiving(c)
	d.supervisor.Lose()
	d.supervisor = nil
	d.restart()
	d.wantRestored(c)
	fmt.Println(kept)
	awaitNode(t, node, ended)
	d.wantEnded(c)
}

// podDescriptor is the pod's netns in the container.
const podDescriptor = 3

// furnish makes the container of its new namespaces.
func (c container) furnish() error {
	propagation := uintptr(unix.MS_PRIVATE)
	if c.Propagation {
		propagation = unix.MS_SLAVE
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|propagation, ""); err != nil {
		return fmt.Errorf("set propagation: %w", err)
	}
	if !c.HostPID {
		if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
			return fmt.Errorf("mount /proc: %w", err)
		}
	}
	return nil
}

func awaitNode(t *testing.T, node *bufio.Scanner, line string) {
	t.Helper()
	if !node.Scan() || node.Text() != line {
		t.Fatalf("the node says %q, %v: want %q", node.Text(), node.Err(), line)
	}
}

// finds reports whether the daemon finds the pod where the node has it mounted, and
// seesAll whether it sees all that may hold a netns.
func (c container) finds() bool   { return c.Mounted && c.Propagation }
func (c container) seesAll() bool { return c.HostPID && c.Ptrace }

// sees reports whether the daemon sees that the pod lives. The list of the node's
// mounts is open to all of its processes.
func (c container) sees() bool { return c.finds() || c.seesAll() || c.Mounted && c.HostPID }

// wantNamed expects that a text names what the daemon lacks to see the pod, and nothing
// else.
func (c container) wantNamed(t testing.TB, text string) {
	t.Helper()
	for word, has := range map[string]bool{
		"propagation HostToContainer": c.finds(), "hostPID: true": c.HostPID,
		"CAP_SYS_PTRACE": c.Ptrace,
	} {
		if strings.Contains(text, word) == has {
			t.Errorf("%q in %q: %t, want %t", word, text, has, !has)
		}
	}
}

// wantLiving expects the pod to stay attached, and what cannot be seen to be named.
func (d *daemon) wantLiving(c container) {
	d.t.Helper()
	d.wantKept("one")
	doubts := d.Doubts()
	if c.sees() != (doubts == nil) {
		d.t.Fatalf("doubts %+v in %v", doubts, c)
	}
	if doubts != nil {
		c.wantNamed(d.t, doubts.Reason)
	}
}

// wantRestored expects the pod to be restored without a descriptor, if it is seen. Its
// record stays otherwise.
func (d *daemon) wantRestored(c container) {
	d.t.Helper()
	if c.finds() || c.seesAll() {
		d.wantLiving(c)
		return
	}
	for range rounds {
		d.Verify(d.t.Context())
	}
	d.wantAttached(0)
	problems := d.Problems()
	if len(problems) != 1 || problems[0].Key.ContainerID != "one" {
		d.t.Fatalf("problems %+v, want that the pod is not restored", problems)
	}
	c.wantNamed(d.t, problems[0].Message)
}

// wantEnded expects the pod to be detached if the daemon sees that it is gone.
func (d *daemon) wantEnded(c container) {
	d.t.Helper()
	for range rounds {
		d.Verify(d.t.Context())
	}
	list, err := d.List(d.t.Context())
	nstest.Must(d.t, err)
	want := 0
	if c.finds() && !c.seesAll() {
		want = 1
	}
	if len(list) != want {
		d.t.Errorf("attachments %v of a pod that is gone, want %d", list, want)
	}
	if c.seesAll() {
		d.wantNothing()
	}
}
