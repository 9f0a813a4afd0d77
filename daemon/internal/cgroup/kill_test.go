// SPDX-License-Identifier: Apache-2.0

//go:build netns

package cgroup

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// trees are those of this machine: as it is, and as if it had version 1 only.
func trees(t *testing.T) map[string]*Tree {
	t.Helper()
	name := "nsqueue-test-" + strconv.Itoa(os.Getpid())
	tree, err := Open(DefaultMounts, name)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*Tree{"as it is": tree}
	freezer := filepath.Join(DefaultMounts, "freezer")
	if isType(freezer, unix.CGROUP_SUPER_MAGIC) {
		all["version 1"] = &Tree{name: name, v1: map[string]string{
			"freezer": freezer, "pids": filepath.Join(DefaultMounts, "pids"),
		}}
	}
	return all
}

// Killing ends all processes of a group, and nothing is left of it.
func TestKill(t *testing.T) {
	for name, tree := range trees(t) {
		t.Run(name, func(t *testing.T) {
			t.Cleanup(func() {
				if err := tree.Remove(); err != nil {
					t.Error(err)
				}
			})
			g, err := tree.Make("one", Limits{PIDs: 100})
			if err != nil {
				t.Fatal(err)
			}
			cmd := startIn(t, g)
			await(t, "three processes", func() bool {
				pids, err := g.Processes()
				return err == nil && len(pids) == 3
			})
			if err := g.Remove(); !errors.Is(err, unix.EBUSY) {
				t.Errorf("a group with processes is removed: %v", err)
			}
			if names, err := tree.Groups(); err != nil || len(names) != 1 || names[0] != "one" {
				t.Errorf("groups %v, %v", names, err)
			}
			if err := g.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			await(t, "the group is empty", func() bool { return g.Remove() == nil })
			if names, err := tree.Groups(); err != nil || len(names) != 0 {
				t.Errorf("groups %v, %v", names, err)
			}
		})
	}
}

// startIn starts a shell that has two children, and puts it into the group before.
func startIn(t *testing.T, g *Group) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sh", "-c", "read x; sleep 1000 & sleep 1000 & wait")
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	dirs := []string{g.unified}
	for _, dir := range g.v1 {
		dirs = append(dirs, dir)
	}
	for _, dir := range dirs {
		if dir != "" {
			put(t, filepath.Join(dir, "cgroup.procs"), strconv.Itoa(cmd.Process.Pid))
		}
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute", what)
		}
		<-time.After(time.Millisecond)
	}
}
