// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestNameOf(t *testing.T) {
	if got, want := NameOf("4711", "../a b/ä"), "4711-___a_b__"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestOpenWithoutGroups(t *testing.T) {
	if _, err := Open(t.TempDir(), "x"); err == nil {
		t.Error("a directory without control groups was accepted")
	}
}

// put writes a file that the kernel would have.
func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Either version is told its own numbers in its own files, and asked for them.
func TestVersions(t *testing.T) {
	limits := Limits{Memory: 1 << 20, CPUWeight: 50, PIDs: 7}
	usage := Usage{Memory: 4096, CPU: 1500 * time.Microsecond, OOMKills: 2}
	for name, test := range map[string]struct {
		mounts []string // of version 1
		says   map[string]string
		gets   map[string]string
	}{
		"two": {
			says: map[string]string{
				"u/memory.current": "4096\n", "u/memory.events": "low 0\noom_kill 2\n",
				"u/cpu.stat": "usage_usec 1500\nuser_usec 1\n",
			},
			gets: map[string]string{
				"u/memory.max": "1048576", "u/cpu.weight": "50", "u/pids.max": "7", "u/memory.oom.group": "1",
			},
		},
		"one": {
			mounts: []string{"memory", "cpu", "pids", "cpuacct"},
			says: map[string]string{
				"memory/memory.usage_in_bytes": "4096\n",
				"memory/memory.oom_control":    "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
				"cpuacct/cpuacct.usage":        "1500000\n",
			},
			gets: map[string]string{
				"memory/memory.limit_in_bytes": "1048576", "cpu/cpu.shares": "512", "pids/pids.max": "7",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			g := &Group{unified: filepath.Join(dir, "u"), v1: make(map[string]string)}
			put(t, filepath.Join(g.unified, "cgroup.procs"), "4711\n0\n4712\n")
			for _, m := range test.mounts {
				g.v1[m] = filepath.Join(dir, m)
				put(t, filepath.Join(dir, m, "tasks"), "")
			}
			for path, text := range test.says {
				put(t, filepath.Join(dir, path), text)
			}
			if err := g.limit(limits); err != nil {
				t.Fatal(err)
			}
			for path, want := range test.gets {
				if got := content(t, filepath.Join(dir, path)); got != want {
					t.Errorf("%s: %q, want %q", path, got, want)
				}
			}
			got, err := g.Usage()
			if diff := cmp.Diff(usage, got); diff != "" || err != nil {
				t.Error(diff, err)
			}
			pids, err := g.Processes()
			if diff := cmp.Diff([]int{4711, 4712}, pids); diff != "" || err != nil {
				t.Error(diff, err)
			}
		})
	}
}

// A limit that the node cannot keep is an error that names it.
func TestLimitWithoutController(t *testing.T) {
	g := &Group{unified: filepath.Join(t.TempDir(), "gone"), v1: map[string]string{}}
	if err := g.limit(Limits{PIDs: 1}); err == nil {
		t.Error("no error")
	}
}

// A group that is gone has nothing, and needs nothing.
func TestGoneGroup(t *testing.T) {
	g := &Group{unified: filepath.Join(t.TempDir(), "gone"), v1: map[string]string{}}
	pids, err := g.Processes()
	if len(pids) > 0 || err != nil {
		t.Errorf("%v, %v", pids, err)
	}
	for what, err := range map[string]error{"kill": g.Kill(), "remove": g.Remove()} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if u, err := g.Usage(); u != (Usage{}) || err != nil {
		t.Errorf("%+v, %v", u, err)
	}
}
