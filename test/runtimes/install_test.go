// SPDX-License-Identifier: Apache-2.0

//go:build runtimes

package runtimes

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/conflist"
	"github.com/nsqueue/nsqueue/test/nstest"
	"github.com/nsqueue/nsqueue/test/runtimes/cri"
)

// testInstall installs nsqueue into flannel's stock chain under each runtime,
// while pods come and go, and takes it out again.
func testInstall(t *testing.T, c *rig) {
	for _, n := range c.nodes {
		t.Run(n.version, func(t *testing.T) { n.tryInstaller(t, c.bin) })
	}
}

func (n *node) tryInstaller(t *testing.T, bin string) {
	dir := netDir(stock)
	list := n.File(filepath.Join(dir, "10-flannel.conflist"))
	before, err := os.ReadFile(list)
	nstest.Must(t, err)
	ctl := func(args ...string) string {
		t.Helper()
		out, err := n.Command(filepath.Join(bin, "nsqueuectl"), append(args,
			"--conf-dir", dir, "--bin-dir", "/opt/cni/bin", "-o", "json")...).Output()
		nstest.Must(t, err)
		return string(out)
	}
	older := n.newPod(t, cri.Spec{Name: "older", Handler: stock})

	mode := conflist.DropIn
	if n.isOld() {
		mode = conflist.Append
	}
	// The plugin is there already; the one beside nsqueuectl is not the recorder.
	checkInstalled(t, ctl("install", "--plugin", "/opt/cni/bin/nsqueue"), mode)
	newer := n.newPod(t, cri.Spec{Name: "newer", Handler: stock})
	talk(t, newer, older)
	n.checkInspected(t, newer)
	remove(t, newer)

	n.keepInstalled(t, bin, before)
	if a := n.attachment(t, older); a.Origin != api.OriginAdopted {
		t.Errorf("the pod of the gap: %+v", a)
	}

	checkInstalled(t, ctl("uninstall", "--keep-plugin"), "")
	after, err := os.ReadFile(list)
	nstest.Must(t, err)
	if string(after) != string(before) {
		t.Errorf("left:\n%s\nwant:\n%s", after, before)
	}
	last := n.newPod(t, cri.Spec{Name: "last", Handler: stock})
	if _, attached := n.attachments(t)[last.ID]; attached {
		t.Error("a pod is attached that was made after nsqueue was uninstalled")
	}
	_, err = n.daemon.DetachAll(t.Context()) // its DEL does not reach nsqueue any more
	nstest.Must(t, err)
}

// checkInstalled wants the runtime to have read what the command has changed.
func checkInstalled(t *testing.T, output string, mode conflist.Mode) {
	t.Helper()
	var done struct {
		Mode     conflist.Mode
		Changes  []conflist.Change
		Reloaded bool
	}
	nstest.Must(t, json.Unmarshal([]byte(output), &done))
	if done.Mode != mode || len(done.Changes) == 0 || !done.Reloaded {
		t.Errorf("mode %q, want a change that was read: %s", mode, output)
	}
}

// keepInstalled has the list rewritten as flannel does, while the command
// watches. What it appends again is found by the runtime.
func (n *node) keepInstalled(t *testing.T, bin string, stockList []byte) {
	t.Helper()
	list := n.File(filepath.Join(netDir(stock), "10-flannel.conflist"))
	watch, err := n.Launch(nil, filepath.Join(bin, "nsqueuectl"), "install", "--watch",
		"--mode", "append", "--plugin", "/opt/cni/bin/nsqueue",
		"--conf-dir", netDir(stock), "--bin-dir", "/opt/cni/bin")
	nstest.Must(t, err)
	defer func() { nstest.Must(t, watch.Stop()) }()
	for range 3 {
		nstest.Must(t, os.WriteFile(list, stockList, 0o644))
		nstest.Eventually(t, patience, "the entry is back", func() bool {
			b, err := os.ReadFile(list)
			return err == nil && strings.Contains(string(b), `"nsqueue"`)
		})
	}
	nstest.Eventually(t, patience, "the pod of the gap is adopted", func() bool {
		return watch.Log.Contains("adopted: 1 pod")
	})
	n.checkInspected(t, n.newTalker(t))
}

// newTalker returns a pod of the stock chain that has sent something.
func (n *node) newTalker(t *testing.T) *cri.Pod {
	t.Helper()
	p := n.newPod(t, cri.Spec{Name: "talker", Handler: stock})
	exec(t, p, "ping", "-c", "1", "-w", "60", n.gateway(p))
	return p
}
