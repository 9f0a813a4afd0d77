// SPDX-License-Identifier: Apache-2.0

//go:build kube

package kube

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// testPlugin asks both nodes by the plugin of kubectl, and has one of them lose its power
// while packets are watched.
func testPlugin(t *testing.T, r *rig) {
	r.awaitAttached(t)
	r.asksNodes(t)
	r.drawPlugin(t)
	n := r.nodes[len(r.nodes)-1]
	w := r.watch(t)
	r.underLoad(t, func() {
		nstest.Must(t, n.await("packets of both nodes are watched", func() bool {
			seen := w.counts()
			return len(seen) == len(r.nodes) && slices.Min(slices.Collect(maps.Values(seen))) > 100
		}))
	})
	r.progress(t, "%s loses its power while it is watched", n.name())
	nstest.Must(t, n.cut())
	nstest.Must(t, n.await("the node is named", func() bool {
		return strings.Contains(w.said(), n.name()+" does not answer: ")
	}))
	w.interrupt(t)
	if said := w.said(); !strings.Contains(said, "1 of 2 nodes did not answer:\n  "+n.name()+": ") {
		t.Errorf("at the end it says: %s", said)
	}
	w.inOrder(t)
	r.progress(t, "watched: %v packets; %s", w.counts(), strings.ReplaceAll(w.said(), "\n", "; "))
	nstest.Must(t, r.nodes[0].await("nothing of it is left on the other node", func() bool {
		out, err := r.nodes[0].Run("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
		return err == nil && !strings.Contains(out, "nsqueuectl --keepalive")
	}))
	r.boot(t, n)
	r.awaitNodes(t)
	r.awaitAgents(t)
	r.awaitPods(t, namespace, "app=talker", len(r.talkers()))
	r.awaitAttached(t)
}

// asksNodes looks at what the plugin says of both nodes.
func (r *rig) asksNodes(t *testing.T) {
	t.Helper()
	var list struct {
		Attachments []struct {
			api.Attachment

			Node string
		}
	}
	nstest.Must(t, json.Unmarshal([]byte(r.plugin(t, "list", "-o", "json")), &list))
	for _, n := range r.nodes {
		want := slices.Sorted(maps.Keys(n.attachments(t)))
		var got []string
		for _, a := range list.Attachments {
			if a.Node == n.name() && a.Pod.Namespace == namespace {
				got = append(got, a.Pod.Name)
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("of %s it lists %v, want %v", n.name(), got, want)
		}
	}
	one := r.talkerOn(r.nodes[0])
	if out := r.plugin(t, "describe", namespace+"/"+one.name); !strings.Contains(out,
		"Node:  "+one.node.name()) {
		t.Errorf("it describes %s", out)
	}
	for _, line := range []string{"status", "doctor -o wide", "events", "stats --once"} {
		out, _ := r.pluginCommand(strings.Fields(line)...).Output() // doctor may find something
		for _, n := range r.nodes {
			if !strings.Contains(string(out), "\n"+n.name()+" ") {
				t.Errorf("%s says nothing of %s:\n%s", line, n.name(), out)
			}
		}
	}
}

// drawPlugin leaves what a user sees in the directory of NSQUEUE_PICTURES, if there is one.
func (r *rig) drawPlugin(t *testing.T) {
	t.Helper()
	dir := os.Getenv("NSQUEUE_PICTURES")
	if dir == "" {
		return
	}
	var seen strings.Builder
	r.underLoad(t, func() {
		for _, line := range []string{"status", "list", "watch --count 6 --protocol udp"} {
			fmt.Fprintf(&seen, "$ kubectl nsqueue %s\n%s\n", line, r.plugin(t, strings.Fields(line)...))
		}
	})
	nstest.Must(t, os.WriteFile(filepath.Join(dir, "kubectl-nsqueue.txt"), []byte(seen.String()), 0o644))
}

// pluginCommand is one of kubectl, which finds its plugins by PATH.
func (r *rig) pluginCommand(args ...string) *exec.Cmd {
	cmd := r.command("kubectl", append([]string{"nsqueue", "--timeout", "10s"}, args...)...)
	cmd.Env = append(cmd.Env, "PATH="+r.bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
	return cmd
}

// plugin runs a command that must succeed.
func (r *rig) plugin(t *testing.T, args ...string) string {
	t.Helper()
	out, err := r.pluginCommand(args...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		t.Fatalf("kubectl nsqueue %v: %v\n%s", args, err, exit.Stderr)
	}
	nstest.Must(t, err)
	return string(out)
}

// watched is a watch that goes on.
type watched struct {
	cmd      *exec.Cmd
	out, err locked
}

// locked is a buffer that is read while it is written.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// watch begins to watch the packets of the test's pods.
func (r *rig) watch(t *testing.T) *watched {
	t.Helper()
	w := &watched{cmd: r.pluginCommand("watch", "--pod-namespace", namespace, "--window", "5s",
		"-o", "json", "--rate", "50")}
	w.cmd.Stdout, w.cmd.Stderr = &w.out, &w.err
	nstest.Must(t, w.cmd.Start())
	t.Cleanup(func() { _ = w.cmd.Process.Kill() })
	return w
}

// packet is what is looked at of a line.
type packet struct {
	Node string
	Time time.Time
}

func (w *watched) packets() []packet {
	var all []packet
	for line := range strings.Lines(w.out.String()) {
		var p packet
		if json.Unmarshal([]byte(line), &p) == nil {
			all = append(all, p)
		}
	}
	return all
}

// counts is how many packets there are of each node.
func (w *watched) counts() map[string]int {
	seen := make(map[string]int)
	for _, p := range w.packets() {
		seen[p.Node]++
	}
	return seen
}

func (w *watched) said() string { return w.err.String() }

// interrupt ends it as Ctrl-C does; it must say that a node has not answered.
func (w *watched) interrupt(t *testing.T) {
	t.Helper()
	nstest.Must(t, w.cmd.Process.Signal(unix.SIGINT))
	_ = w.cmd.Wait()
	if status := w.cmd.ProcessState.ExitCode(); status != 1 {
		t.Errorf("the watch ends with status %d: %s", status, w.said())
	}
}

// inOrder wants the packets of both nodes in the order of their times.
func (w *watched) inOrder(t *testing.T) {
	t.Helper()
	all := w.packets()
	if !slices.IsSortedFunc(all, func(a, b packet) int { return a.Time.Compare(b.Time) }) {
		t.Errorf("%d packets are not in order: %s", len(all), w.said())
	}
}
