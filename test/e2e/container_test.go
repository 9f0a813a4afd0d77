// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// TestContainerWithoutMounts runs the daemon as a container does that has neither
// the node's netns nor all of its processes: in a mount namespace of its own, in
// a PID namespace that is not the initial one, and as process 1 of it. However often it starts, it
// forgets no pod, and takes it up when it can see it.
func TestContainerWithoutMounts(t *testing.T) {
	const starts = 3
	mounted := filepath.Join(t.TempDir(), "mounted")
	r := newWrappedRig(t, api.Fail, "unshare", "--mount", "--propagation", "private",
		"sh", "-c", `test -e `+mounted+` || mount -t tmpfs none /run/netns &&
			mount --bind /proc/$$ /proc/1 && exec "$@"`, "sh")
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		t.Fatal(err)
	}
	restart := func() {
		t.Helper()
		if err := r.Stop(); err != nil {
			t.Fatal(err)
		}
		r.start(t)
	}
	status := func() api.Status {
		t.Helper()
		s, err := r.Client.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	r.start(t)
	pod, peer := nstest.Pair(t)
	c := r.attachAs(t, "lives", pod)
	r.wantInspected(t, c, pod, peer)
	for range starts {
		restart()
		s := status()
		if len(s.Problems) != 1 || s.Problems[0].Key != c.key() ||
			!strings.Contains(s.Problems[0].Message, "never seen") ||
			!strings.Contains(s.Problems[0].Message, "hostPID") {
			t.Fatalf("problems %+v", s.Problems)
		}
		events, err := r.Client.Events(t.Context())
		if err != nil || !slices.ContainsFunc(events, func(e api.Event) bool {
			return e.Kind == api.EventFailure && e.Key == c.key()
		}) {
			t.Errorf("events %+v, %v", events, err)
		}
	}
	if err := os.WriteFile(mounted, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	restart()
	r.wantInspected(t, c, pod, peer)
	if s := status(); len(s.Problems) != 0 {
		t.Errorf("problems %+v", s.Problems)
	}
	if o := c.run(t, "DEL"); o.failed || o.stderr != "" {
		t.Errorf("DEL: %s%s", o.stdout, o.stderr)
	}
}

// TestContainerSaysWhatIsMissing restarts a daemon whose supervisor keeps its queues, in
// a container that has none of what it takes to see pods. The pod stays attached, and
// status and doctor name all of it.
func TestContainerSaysWhatIsMissing(t *testing.T) {
	r := newWrappedRig(t, api.Fail, "unshare", "--mount", "--propagation", "private",
		"setpriv", "--bounding-set", "-sys_ptrace", "sh", "-c",
		`mount -t tmpfs none /run/netns && mount --bind /proc/$$ /proc/1 &&
			program="$1" && shift &&
			exec "$program" supervise --max-deaths 0 --runtime-dir "$0" -- "$@"`, t.TempDir())
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		t.Fatal(err)
	}
	r.start(t)
	pod, peer := nstest.Pair(t)
	c := r.attachAs(t, "lives", pod)
	if out, err := exec.Command(filepath.Join(binDir(t), "nsqueuectl"), "--socket", r.Socket(),
		"upgrade").CombinedOutput(); err != nil {
		t.Fatalf("upgrade: %v: %s", err, out)
	}
	r.wantInspected(t, c, pod, peer)
	for _, command := range []string{"status", "doctor"} {
		var out []byte
		said := func() bool {
			// Doctor finds more that is wrong with a machine that has no CNI chain.
			out, _ = exec.Command(filepath.Join(binDir(t), "nsqueuectl"), "--socket", r.Socket(),
				command).CombinedOutput()
			text := strings.Join(strings.Fields(string(out)), " ")
			return strings.Contains(text, "propagation HostToContainer") &&
				strings.Contains(text, "hostPID: true") && strings.Contains(text, "CAP_SYS_PTRACE")
		}
		if !nstest.Poll(patience, said) {
			t.Errorf("%s does not say what is missing: %s", command, out)
		}
	}
	if o := c.run(t, "DEL"); o.failed || o.stderr != "" {
		t.Errorf("DEL: %s%s", o.stdout, o.stderr)
	}
}
