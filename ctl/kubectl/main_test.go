// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/pods"
	"github.com/nsqueue/nsqueue/daemon/api"
)

// nsqueuectl is the program of a node in these tests.
type nsqueuectl func(ctx context.Context, args []string, stdout, stderr io.Writer) error

// fakeCluster has nodes that do what tests say.
type fakeCluster struct {
	found   []pods.Pod
	err     error
	nodes   map[string]nsqueuectl
	forward func(ctx context.Context, p pods.Pod, local, remote uint16,
		ready func(uint16) error) error

	mu    sync.Mutex
	asked map[string][]string // what nodes were asked, one string a call
}

func newCluster(nodes map[string]nsqueuectl) *fakeCluster {
	c := &fakeCluster{nodes: nodes, asked: map[string][]string{}}
	for node := range nodes {
		c.found = append(c.found, pods.Pod{Node: node, Namespace: "ns", Name: "pod-" + node})
	}
	slices.SortFunc(c.found, func(a, b pods.Pod) int { return strings.Compare(a.Node, b.Node) })
	return c
}

func (c *fakeCluster) Find(context.Context) ([]pods.Pod, error) { return c.found, c.err }

func (c *fakeCluster) Exec(
	ctx context.Context, p pods.Pod, args []string, stdout, stderr io.Writer,
) error {
	if len(args) < 2 || !strings.HasPrefix(args[0], "--keepalive=") || args[1] != "--end-with-stdin" {
		return fmt.Errorf("nsqueuectl is not asked to say that it is there, and to end: %q", args)
	}
	c.mu.Lock()
	c.asked[p.Node] = append(c.asked[p.Node], strings.Join(args[2:], " "))
	c.mu.Unlock()
	return c.nodes[p.Node](ctx, args[2:], stdout, stderr)
}

func (c *fakeCluster) Forward(
	ctx context.Context, p pods.Pod, local, remote uint16, ready func(uint16) error,
) error {
	return c.forward(ctx, p, local, remote, ready)
}

// says is a node that prints a text.
func says(out string) nsqueuectl {
	return func(_ context.Context, _ []string, stdout, _ io.Writer) error {
		_, err := io.WriteString(stdout, out)
		return err
	}
}

// refuses is a node on which nsqueuectl fails.
func refuses(status int, reason string) nsqueuectl {
	return func(_ context.Context, _ []string, _, stderr io.Writer) error {
		_, err := io.WriteString(stderr, "\n"+reason)
		return errors.Join(err, &pods.ExitError{Status: status})
	}
}

// lost is a node that cannot be reached.
func lost(reason string) nsqueuectl {
	return func(context.Context, []string, io.Writer, io.Writer) error { return errors.New(reason) }
}

type outcome struct {
	status      int
	stdout, err string
}

// text is written by several goroutines, and calls a function at some words.
type textOf struct {
	mu   sync.Mutex
	b    strings.Builder
	on   string
	call func()
}

func (w *textOf) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.b.Write(p)
	if w.on != "" && strings.Contains(w.b.String(), w.on) {
		w.on = ""
		w.call()
	}
	return n, err
}

func (w *textOf) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

func testNow() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

func streams(c cluster, out, errs io.Writer) *IOStreams {
	return &IOStreams{
		out: out, err: errs, now: testNow, pause: time.Millisecond,
		width: func() int { return 0 }, height: func() int { return 0 },
		open: func(*genericclioptions.ConfigFlags, string) (cluster, error) { return c, nil },
	}
}

// plugin runs one command line.
func plugin(t *testing.T, c cluster, args ...string) outcome {
	t.Helper()
	var out, errs textOf
	status := execute(t.Context(), streams(c, &out, &errs), args)
	return outcome{status, out.String(), errs.String()}
}

// untilSaid runs one command line until it has said some words on standard error.
func untilSaid(t *testing.T, c cluster, words string, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out textOf
	errs := textOf{on: words, call: cancel}
	status := execute(ctx, streams(c, &out, &errs), args)
	if !strings.Contains(errs.String(), words) {
		t.Errorf("not said within a minute: %q", words)
	}
	return outcome{status, out.String(), errs.String()}
}

func (o outcome) want(t *testing.T, status int, stdout, stderr string) {
	t.Helper()
	if o.status != status {
		t.Errorf("status %d, want %d", o.status, status)
	}
	if diff := cmp.Diff(stdout, o.stdout); diff != "" {
		t.Errorf("stdout (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(stderr, o.err); diff != "" {
		t.Errorf("stderr (-want +got):\n%s", diff)
	}
}

func TestVersion(t *testing.T) {
	for _, arg := range []string{"--version", "version"} {
		plugin(t, newCluster(nil), arg).want(t, 0, "kubectl-nsqueue "+api.Version()+"\n", "")
	}
}

// What is wrong with the command line is said before anything is asked.
func TestWrongUsage(t *testing.T) {
	c := newCluster(map[string]nsqueuectl{"n1": says("{}"), "n2": says("{}")})
	for line, want := range map[string]string{
		"list -o xml":                       `output format "xml": want table, wide, json, yaml`,
		"list --parallel 0":                 "parallel 0: want 1 to 1000",
		"list --timeout 1ms":                "timeout 1ms: want at least 1s",
		"watch --max-nodes 0":               "max-nodes 0: want 1 or more",
		"watch --max-nodes 1":               "this would keep connections to 2 nodes, and --max-nodes allows 1: choose some with --node",
		"watch --window 2h":                 "window 2h0m0s: want 0 to 1m",
		"stats --sort x":                    `sort by "x": want packets, bits, drops, settled, time or pod`,
		"stats --limit -1":                  "limit -1: want 0 or more",
		"capture -w x --snaplen 0":          "snaplen 0: want 1 to 65535",
		"capture -w x --duration -1s":       "duration -1s: want 0 or more",
		"capture":                           `required flag(s) "write" not set`,
		"ui":                                "a page shows one node, and there are 2: name one with --node",
		"describe":                          "accepts 1 arg(s), received 0",
		"list --nonsense":                   "unknown flag: --nonsense",
		"watch --port 70000 --node n1":      `invalid argument "70000" for "--port" flag: strconv.ParseUint: parsing "70000": value out of range`,
		"rules list surplus":                `unknown command "surplus" for "kubectl nsqueue rules list"`,
		"--namespace x --context y surplus": `unknown command "surplus" for "kubectl nsqueue"`,
	} {
		plugin(t, c, strings.Fields(line)...).want(t, 2, "",
			"kubectl nsqueue: "+want+"\nSee kubectl nsqueue --help.\n")
	}
	if len(c.asked) > 0 {
		t.Errorf("nodes were asked: %v", c.asked)
	}
}

// What nodes refuse is said once, and is wrong usage here as well.
func TestWrongUsageOfNodes(t *testing.T) {
	no := refuses(2, "nsqueuectl: pod \"a/b/c\": want NAMESPACE/NAME\nSee nsqueuectl --help.\n")
	c := newCluster(map[string]nsqueuectl{"n1": no, "n2": no})
	const want = "kubectl nsqueue: pod \"a/b/c\": want NAMESPACE/NAME\nSee kubectl nsqueue --help.\n"
	plugin(t, c, "list", "--pod", "a/b/c").want(t, 2, "", want)
	got := plugin(t, c, "watch", "--pod", "a/b/c")
	if got.status != 2 || strings.Count(got.err, "want NAMESPACE/NAME") != 1 {
		t.Errorf("%+v", got)
	}
}

func TestNoCluster(t *testing.T) {
	c := newCluster(nil)
	plugin(t, c, "list").want(t, 3, "", "kubectl nsqueue: there is no pod of nsqueue with the "+
		"labels app.kubernetes.io/name=nsqueue: name its namespace with -n, or its labels with "+
		"--selector\n")
	c.err = errors.New("connection refused")
	for _, line := range []string{"list", "watch", "describe a/b", "ui", "events -f", "stats"} {
		plugin(t, c, strings.Fields(line)...).want(t, 3, "",
			"kubectl nsqueue: connection refused\n")
	}
}

// Nodes get the flags that they have as well.
func TestFlagsOfNodes(t *testing.T) {
	for line, want := range map[string]string{
		"list --pod-namespace a -o wide":      "list --namespace=a -o json",
		"events --rule s/r --verdict drop":    "events -o json --rule=s/r --verdict=drop",
		"doctor --bin-dir /b --conf-dir /c":   "doctor -o json --bin-dir=/b --conf-dir=/c",
		"stats --once --sort bits --limit 3":  "stats --limit=3 --sort=bits --once -o json",
		"status -n x --node n1 --timeout 40s": "status -o json",
		"rules list":                          "rules list -o json",
		"watch --pod a/b --port 53 --no-probes --rate 7 --count 1": "watch -o json --no-probes=true " +
			"--pod=a/b --port=53 --rate=7",
	} {
		c := newCluster(map[string]nsqueuectl{"n1": says("{}\n")})
		plugin(t, c, strings.Fields(line)...)
		if got := c.asked["n1"]; len(got) == 0 || got[0] != want {
			t.Errorf("%s: asked %q, want %q", line, got, want)
		}
	}
}
