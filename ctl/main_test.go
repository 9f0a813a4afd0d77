// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

type outcome struct {
	status      int
	stdout, err string
}

// nsqueuectl runs one command line against the daemon at socket.
func nsqueuectl(ctx context.Context, socket string, args ...string) outcome {
	var out, errs strings.Builder
	s := &IOStreams{
		out: &out, err: &errs, now: testNow, version: testVersion, progressAfter: time.Minute, width: func() int { return 0 },
		getenv: func(name string) string {
			return map[string]string{"NSQUEUE_SOCKET": socket}[name]
		},
	}
	status := execute(ctx, s, args)
	return outcome{status, out.String(), errs.String()}
}

const testVersion = "v1.2.3"

func testNow() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

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
		nsqueuectl(t.Context(), "", arg).want(t, 0, "nsqueuectl "+api.Version()+"\n", "")
	}
}

func TestHelpFits(t *testing.T) {
	for _, args := range [][]string{
		{},
		{"adopt"},
		{"attach"},
		{"capture"},
		{"describe"},
		{"detach"},
		{"doctor"},
		{"events"},
		{"install"},
		{"list"},
		{"log-level"},
		{"rules"},
		{"rules", "check"},
		{"rules", "list"},
		{"rules", "reload"},
		{"rules", "suggest"},
		{"rules", "test"},
		{"rules", "try"},
		{"stats"},
		{"status"},
		{"ui"},
		{"uninstall"},
		{"upgrade"},
		{"watch"},
		{"version"},
	} {
		o := nsqueuectl(t.Context(), "", append(args, "--help")...)
		if o.status != 0 || o.err != "" {
			t.Errorf("help of %v: %+v", args, o)
		}
		if len(args) > 0 && !strings.Contains(o.stdout, "\nExamples:\n") {
			t.Errorf("help of %v: no example", args)
		}
		for line := range strings.Lines(o.stdout) {
			if len(line) > 81 {
				t.Errorf("help of %v: more than 80 columns: %s", args, line)
			}
		}
	}
	if o := nsqueuectl(t.Context(), ""); !strings.Contains(o.stdout, "could not be reached") {
		t.Errorf("help does not explain the exit status:\n%s", o.stdout)
	}
}

func TestUsageErrors(t *testing.T) {
	var d apitest.Daemon
	socket := d.Start(t)
	for line, message := range map[string]string{
		"frobnicate":                                 `unknown command "frobnicate" for "nsqueuectl"`,
		"list everything":                            `unknown command "everything" for "nsqueuectl list"`,
		"list -o xml":                                `output format "xml": want table, wide, json or yaml`,
		"adopt everything":                           `unknown command "everything" for "nsqueuectl adopt"`,
		"install --mode x":                           `mode "x": want auto, append or drop-in`,
		"install --profile x":                        `profile "x": want auto, k3s, microk8s, kubeadm, kind`,
		"install --socket x":                         `socket: want an absolute path of at most 107 bytes, got "x"`,
		"install --failure-policy fail":              `failurePolicy: want "Ignore" or "Fail", got "fail"`,
		"install --watch --dry-run":                  "--watch and --dry-run exclude each other",
		"uninstall --profile x":                      `profile "x": want auto, k3s, microk8s, kubeadm, kind`,
		"list --nope":                                "unknown flag: --nope",
		"attach --netns /x":                          `required flag(s) "container-id" not set`,
		"attach --netns /x --container-id a/b":       "",
		"attach --netns /x --container-id a --pod b": `pod "b": want NAMESPACE/NAME`,
		"attach --netns /x --container-id a --failure-policy fail": `failure policy "fail": ` +
			`want "Ignore" or "Fail"`,
		"detach":               "detach: give either container IDs or --all",
		"detach a --all":       "detach: give either container IDs or --all",
		"detach a/":            `attachment "a/": want CONTAINER-ID or CONTAINER-ID/IFNAME`,
		"detach /eth0":         `attachment "/eth0": want CONTAINER-ID or CONTAINER-ID/IFNAME`,
		"watch --pod a/b/c":    `pod "a/b/c": want NAMESPACE/NAME`,
		"watch --count -1":     "",
		"watch --port 65536":   "",
		"watch -n a --pod b/c": `pod "b/c" is not in namespace "a"`,
		"watch --direction up": `direction "up": want one of [in out forward unknown]`,
		"watch --verdict ok":   `verdict "ok": want one of [accept drop queue reject none]`,
		"watch --protocol x":   "",
	} {
		t.Run(line, func(t *testing.T) {
			o := nsqueuectl(t.Context(), socket, strings.Fields(line)...)
			if o.status != 2 || o.stdout != "" || !strings.HasSuffix(o.err, "\nSee nsqueuectl --help.\n") {
				t.Errorf("%+v", o)
			}
			if message != "" && !strings.HasPrefix(o.err, "nsqueuectl: "+message+"\n") {
				t.Errorf("stderr %q, want %q", o.err, message)
			}
		})
	}
	for _, call := range d.Calls() {
		if call != "list" { // what detach looks names up in
			t.Errorf("the daemon was called: %s", call)
		}
	}
}

func TestDaemonUnreachable(t *testing.T) {
	socket := apitest.SocketPath(t)
	for _, line := range []string{
		"rules list", "rules reload", "rules suggest", "adopt", "capture -w /dev/null", "describe a", "events", "events --follow", "list", "stats", "status", "ui", "watch", "detach a", "detach --all",
		"attach --netns /proc/self/ns/net --container-id a",
	} {
		o := nsqueuectl(t.Context(), "/nowhere", append(strings.Fields(line), "--socket", socket)...)
		if o.status != 3 || o.stdout != "" || !strings.Contains(o.err, socket) ||
			!strings.Contains(o.err, "no such file or directory\nIs nsqueued running") {
			t.Errorf("%s: %+v", line, o)
		}
	}
}

func TestDaemonRefuses(t *testing.T) {
	d := apitest.Daemon{Err: func(string) error {
		return &api.Error{Code: api.CodeConflict, Msg: "no", Details: "not this way"}
	}}
	socket := d.Start(t)
	for line, message := range map[string]string{
		"adopt":        "adopt: no; not this way",
		"events":       "no; not this way",
		"list":         "no; not this way",
		"status":       "no; not this way",
		"detach --all": "detach all: no; not this way",
		"attach --netns /proc/self/ns/net --container-id a": "attach a/eth0: no; not this way",
	} {
		nsqueuectl(t.Context(), socket, strings.Fields(line)...).
			want(t, 1, "", "nsqueuectl: "+message+"\n")
	}
}
