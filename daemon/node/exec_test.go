// SPDX-License-Identifier: Apache-2.0

package node

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/cgroup"
	"github.com/nsqueue/nsqueue/daemon/internal/program"
	"github.com/nsqueue/nsqueue/daemon/internal/programs"
)

const execHead = "apiVersion: nsqueue.io/v1alpha1\nkind: DaemonConfiguration\n"

func TestExecConfig(t *testing.T) {
	c, err := parseConfig([]byte(execHead + `
inspectors:
- name: ids
  pods: {namespaces: ["*"]}
  onFailure: Drop
  exec:
    command: [/opt/ids, "-q${QUEUE}"]
    env: {B: "2", A: "${POD_NAME}"}
    queue: 7
    queues: 2
    path: Direct
    startup: Background
    user: {uid: 1000, gid: 0, capabilities: [NET_RAW, CAP_NET_ADMIN, CAP_NET_RAW]}
    resources: {memory: 128Mi, cpuWeight: 50, pids: 64}
    restart: {backoff: 1s, max: 1m}
`))
	if err != nil {
		t.Fatal(err)
	}
	one := c.Inspectors[0].effective()
	got, err := one.Exec.config(&one)
	want := &programs.Config{
		Name: "ids", Direct: true, Budget: time.Second, Backoff: time.Second,
		MaxBackoff: time.Minute, Away: programs.AwayDrop,
		Spec: program.Spec{
			Command: []string{"/opt/ids", "-q${QUEUE}"}, Env: []string{"A=${POD_NAME}", "B=2"},
			Queue: 7, Queues: 2, UID: 1000, Capabilities: []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW},
			Limits: cgroup.Limits{Memory: 128 << 20, CPUWeight: 50, PIDs: 64},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

// The short form is a whole configuration: nsqueued's own queue makes room.
func TestExecDefaults(t *testing.T) {
	c, err := parseConfig([]byte(execHead +
		`inspectors: [{name: seed, pods: {namespaces: ["*"]}, exec: {command: [/opt/a.out], queue: 80}}]`))
	if err != nil {
		t.Fatal(err)
	}
	one := c.Inspectors[0].effective()
	got, err := one.Exec.config(&one)
	if err != nil {
		t.Fatal(err)
	}
	want := &programs.Config{
		Name: "seed", Wait: 5 * time.Second, Budget: time.Second,
		Backoff: 200 * time.Millisecond, MaxBackoff: 30 * time.Second,
		Spec: program.Spec{
			Command: []string{"/opt/a.out"}, Queue: 80, Queues: 1, UID: 65534, GID: 65534,
			Capabilities: []uintptr{unix.CAP_NET_ADMIN},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if c.moveQueues(); c.Queue.Number != 180 {
		t.Errorf("nsqueued's queue is %d, want 180", c.Queue.Number)
	}
}

func TestMoveQueues(t *testing.T) {
	program := func(first, count uint16) InspectorConfig {
		return InspectorConfig{Exec: &ExecConfig{Queue: &first, Queues: count}}
	}
	for name, test := range map[string]struct {
		number, count, want uint16
		programs            []InspectorConfig
	}{
		"none":          {80, 1, 80, nil},
		"a socket":      {80, 1, 80, []InspectorConfig{{}}},
		"beside":        {80, 4, 80, []InspectorConfig{program(84, 2), program(78, 2)}},
		"in the middle": {80, 4, 180, []InspectorConfig{program(82, 0)}},
		"both":          {80, 4, 190, []InspectorConfig{program(80, 1), program(181, 9)}},
	} {
		c := Config{Queue: QueueConfig{Number: test.number, Count: test.count}, Inspectors: test.programs}
		if c.moveQueues(); c.Queue.Number != test.want {
			t.Errorf("%s: %d, want %d", name, c.Queue.Number, test.want)
		}
	}
}

// What is wrong is named with its line.
func TestExecRefused(t *testing.T) {
	const good = "inspectors:\n- name: x\n  pods: {}\n  exec:\n    command: [/bin/true]\n    queue: 7\n"
	if _, err := parseConfig([]byte(execHead + good)); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ old, new, want string }{
		"no queue":         {"    queue: 7\n", "", "exec.queue: want the number"},
		"relative":         {"[/bin/true]", "[bin/true]", "exec: command: want an absolute path"},
		"no command":       {"[/bin/true]", "[]", "exec: command: want an absolute path"},
		"placeholder":      {"[/bin/true]", "[/bin/true, $QUEUE]", "a dollar sign is written $$"},
		"path":             {"queue: 7", "queue: 7\n    path: Above", `exec.path: "Above": want Behind or Direct`},
		"startup":          {"queue: 7", "queue: 7\n    startup: Later", "exec.startup"},
		"capability":       {"queue: 7", "queue: 7\n    user: {capabilities: [CAP_X]}", "exec.user.capabilities"},
		"memory":           {"queue: 7", "queue: 7\n    resources: {memory: 1M}", "exec.resources.memory"},
		"weight":           {"queue: 7", "queue: 7\n    resources: {cpuWeight: 10001}", "exec.resources.cpuWeight"},
		"pids":             {"queue: 7", "queue: 7\n    resources: {pids: -1}", "exec.resources.pids"},
		"too many queues":  {"queue: 7", "queue: 65535\n    queues: 2", "numbers below 65536"},
		"socket, too":      {"pods: {}", "pods: {}\n  socket: /run/x", "want a socket, or exec, and not both"},
		"direct by rules":  {"pods: {}\n  exec:", "exec:\n    path: Direct", "exec.path: the value Direct is for pods"},
		"unknown key":      {"queue: 7", "queue: 7\n    quota: 1", "quota"},
		"negative backoff": {"queue: 7", "queue: 7\n    restart: {backoff: -1s}", "exec.restart"},
	} {
		text := strings.Replace(good, test.old, test.new, 1)
		_, err := parseConfig([]byte(execHead + text))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]int64{
		"": 0, "1": 1, "4Ki": 4096, "2Mi": 2 << 20, "3Gi": 3 << 30,
	} {
		if got, err := parseBytes(text); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"0", "-1", "Mi", "1.5Gi", "1 Mi", "9999999999Gi", "1m"} {
		if got, err := parseBytes(text); err == nil {
			t.Errorf("%q is %d", text, got)
		}
	}
}
