// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package damage

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// finding is what is looked at of doctor's answer.
type finding struct{ Check, Result, What string }

// examined returns doctor's findings that are not ok.
func (r *rig) examined(t *testing.T, confDir string) (bad []finding) {
	t.Helper()
	out, err := r.nsqueuectl("doctor", "-o", "json", "--bin-dir", r.bin, "--conf-dir", confDir)
	var report struct{ Findings []finding }
	if jsonErr := json.NewDecoder(strings.NewReader(out)).Decode(&report); jsonErr != nil {
		t.Fatalf("%v: %v: %s", jsonErr, err, out)
	}
	wrong := false
	for _, f := range report.Findings {
		if f.Result != "ok" {
			bad = append(bad, f)
		}
		wrong = wrong || f.Result == "wrong"
	}
	if wrong != (err != nil) {
		t.Errorf("exit status: %v: %s", err, out)
	}
	return bad
}

// TestDoctor examines a daemon that has followed one that was killed: the new one
// serves the socket, and the kernel has everything as it should be.
func TestDoctor(t *testing.T) {
	r := newRig(t, api.Ignore)
	r.inspector = nsqueued
	r.start()
	p := r.attach("pod")
	before := r.status().PID
	nstest.Must(t, syscall.Kill(before, syscall.SIGKILL))
	r.awaitWorker(before)
	conf := t.TempDir()
	list := filepath.Join(conf, "10.conflist")
	entry := `{"type": "nsqueue", "socket": "` + r.socket() + `"}`
	chain := func(plugins string) {
		nstest.Must(t, os.WriteFile(list, []byte(`{"name": "n", "plugins": [`+plugins+`]}`), 0o600))
	}
	chain(`{"type": "bridge"}, ` + entry)
	// The test's directories are the test's affair, and so are the machine's limits.
	nstest.Must(t, os.Chmod(r.dir, 0o711))
	for _, f := range r.examined(t, conf) {
		if f.Check == "container" && f.Result != "wrong" { // the test's PID namespace
			continue
		}
		if f.Result != "warning" || f.Check != "descriptors" && f.Check != "buffers" {
			t.Errorf("%+v", f)
		}
	}
	p.Run(t, "ip", "rule", "add", "fwmark", "1337", "lookup", "133", "pref", "100") // as a mesh does
	bad := r.examined(t, conf)
	if n := len(bad); n == 0 || bad[n-1].Check != "marks" || bad[n-1].Result != "warning" ||
		!strings.Contains(bad[n-1].What, "ip -4 rule 100 matches mark bits 0xffffffff") {
		t.Errorf("%+v, want the rule", bad)
	}
	chain(entry + `, {"type": "bridge"}`)
	bad = r.examined(t, conf)
	if len(bad) == 0 || bad[0].Check != "cni chain" || bad[0].Result != "wrong" {
		t.Errorf("%+v, want the chain", bad)
	}
	nstest.Must(t, r.client.Detach(t.Context(), p.key))
}
