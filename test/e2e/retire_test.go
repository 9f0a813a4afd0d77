// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// retire runs the command against the rig's daemon, or what that has left.
func (r *rig) retire(t *testing.T) string {
	t.Helper()
	args := []string{"retire", "--socket", r.Socket(), "--state-dir", r.dir}
	if hook := os.Getenv(hookEnv); hook != "" {
		args = append(args, "--hook", hook)
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(binDir(t), "nsqueued"), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("retire: %v\n%s", err, out)
	}
	return string(out)
}

// TestRetire has a daemon retire while packets flow: none is lost, no pod is inspected any
// more, and pods go on to start and to end.
func TestRetire(t *testing.T) {
	for _, policy := range []api.Policy{api.Ignore, api.Fail} {
		t.Run(string(policy), func(t *testing.T) {
			r := startRig(t, policy)
			network := r.open(t, flannelList, "", policy)
			a, b := newPod(t, network, "a"), newPod(t, network, "b")
			flow := startFlow(t, a, b)
			if out := r.retire(t); !strings.Contains(out, "retired: 2 attachments detached") {
				t.Errorf("retire says %s", out)
			}
			flow.expectNoLoss(t)
			late := newPod(t, network, "late")
			pingAll(t, late, a.IPv4)
			pingAll(t, late, b.IPv4)
			for _, p := range []*chain.Pod{a, b, late} {
				if left := tables(t, p); left != "" {
					t.Errorf("pod %s has %s", p.Name, left)
				}
			}
			if s, err := r.Client.Status(t.Context()); err != nil || !s.Retired || s.Attachments != 0 {
				t.Errorf("status: %+v, %v", s, err)
			}
			if _, err := r.Client.Adopt(t.Context(), api.AdoptRequest{}); api.CodeOf(err) != api.CodeRetired {
				t.Errorf("adopt: %v", err)
			}
			if out := r.retire(t); !strings.Contains(out, "retired: 0 attachments detached") {
				t.Errorf("again it says %s", out)
			}
			remove(t, late)
			r.wantNoTrace(t, a)
		})
	}
}

// wantNoTrace stops the daemon, and expects no table and no file of it on the node.
func (r *rig) wantNoTrace(t *testing.T, p *chain.Pod) {
	t.Helper()
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	if left := tables(t, p); left != "" {
		t.Errorf("pod %s has %s", p.Name, left)
	}
	nstest.Must(t, filepath.WalkDir(r.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			t.Errorf("%s is left", path)
		}
		return err
	}))
}

// TestRetireWithoutDaemon takes away what a daemon has left that was killed.
func TestRetireWithoutDaemon(t *testing.T) {
	for _, policy := range []api.Policy{api.Ignore, api.Fail} {
		t.Run(string(policy), func(t *testing.T) {
			r := startRig(t, policy)
			network := r.open(t, flannelList, "", policy)
			a, b := newPod(t, network, "a"), newPod(t, network, "b")
			if err := r.Kill(); err != nil {
				t.Fatal(err)
			}
			late := newPod(t, r.open(t, flannelList, "", api.Ignore), "late") // which is spooled
			if out := r.retire(t); !strings.Contains(out, "retired: 2 attachments detached") {
				t.Errorf("retire says %s", out)
			}
			pingAll(t, a, b.IPv4)
			for _, p := range []*chain.Pod{a, b, late} {
				if left := tables(t, p); left != "" {
					t.Errorf("pod %s has %s", p.Name, left)
				}
			}
			r.wantNoTrace(t, a)
			if out := r.retire(t); !strings.Contains(out, "retired: 0 attachments detached") {
				t.Errorf("with nothing there it says %s", out)
			}
			r.wantNoTrace(t, a)
		})
	}
}

// TestRetiredStays kills a daemon that has retired: its supervisor's next one attaches
// nothing either. A supervisor that starts later, as of a new installation, does.
func TestRetiredStays(t *testing.T) {
	r := newWrappedRig(t, api.Fail, "sh", "-c", `program="$1"; shift; exec "$program" supervise `+
		`--max-deaths 0 --runtime-dir "$0" --handover-dir "$RETIRED_SHARED" -- "$@"`, t.TempDir())
	t.Setenv("RETIRED_SHARED", r.dir)
	r.start(t)
	network := r.open(t, flannelList, "", api.Fail)
	a := newPod(t, network, "a")
	r.retire(t)
	s, err := r.Client.Status(t.Context())
	nstest.Must(t, err)
	nstest.Must(t, syscall.Kill(s.PID, syscall.SIGKILL))
	nstest.Eventually(t, patience, "the next daemon serves", func() bool {
		next, err := r.Client.Status(t.Context())
		return err == nil && next.PID != s.PID && next.Retired
	})
	b := newPod(t, network, "b")
	pingAll(t, a, b.IPv4)
	if got := r.list(t); len(got) != 0 {
		t.Errorf("attached: %+v", got)
	}
	nstest.Must(t, r.Stop())
	r.start(t)
	c := newPod(t, network, "c")
	pingAll(t, c, a.IPv4)
	if got := r.list(t); len(got) != 1 || got[0].Key != c.Key() {
		t.Errorf("the new installation has %+v", got)
	}
}
