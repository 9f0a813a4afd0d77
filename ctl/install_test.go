// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/internal/apitest"
)

const (
	stockList = "{\n  \"name\": \"cbr0\",\n  \"cniVersion\": \"0.3.1\",\n  \"plugins\": [\n" +
		"    {\n      \"type\": \"flannel\"\n    }\n  ]\n}\n"
	// stockEntry is what installing adds to it.
	stockEntry = ",\n    {\n      \"type\": \"nsqueue\",\n      \"socket\": \"SOCKET\",\n" +
		"      \"failurePolicy\": \"Fail\",\n      \"excludeNamespaces\": [\n        \"kube-system\"\n      ],\n" +
		"      \"capabilities\": {\n        \"io.kubernetes.cri.pod-annotations\": true\n      }\n    }"
	// cniPlugin is enough of a plugin for being installed.
	cniPlugin = "#!/bin/sh\necho '{\"cniVersion\":\"1.0.0\",\"supportedVersions\":[\"1.0.0\"]}'\n"
)

// machine is the directories of a node.
type machine struct {
	conf, bin, plugin, list string
	flags                   []string
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	dir := t.TempDir()
	m := &machine{conf: dir + "/net.d", bin: dir + "/bin", plugin: dir + "/built/nsqueue"}
	m.list = m.conf + "/10-flannel.conflist"
	m.flags = []string{"--conf-dir", m.conf, "--bin-dir", m.bin, "--reload-wait", "5ms"}
	for _, d := range []string{m.conf, m.bin, dir + "/built"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, m.list, stockList)
	write(t, m.plugin, cniPlugin)
	if err := os.Chmod(m.plugin, 0o755); err != nil {
		t.Fatal(err)
	}
	return m
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// install returns the arguments of an installation.
func (m *machine) install(more ...string) []string {
	return slices.Concat([]string{"install", "--plugin", m.plugin, "--mode", "append"}, m.flags, more)
}

func (m *machine) uninstall(more ...string) []string {
	return slices.Concat([]string{"uninstall"}, m.flags, more)
}

const unread = "note: no process has read CONF within 5ms. Does a container runtime\nrun here, " +
	"and does it read that directory?\n"

func (m *machine) unread() string { return strings.Replace(unread, "CONF", m.conf, 1) }

func TestInstallAndUninstall(t *testing.T) {
	m := newMachine(t)
	var d apitest.Daemon
	socket := d.Start(t)
	t.Setenv("PATH", t.TempDir()) // no runtime
	install := m.install("--failure-policy", "Fail", "--exclude-namespaces", "kube-system")
	nsqueuectl(t.Context(), socket, install...).
		want(t, 0, m.bin+"/nsqueue: created\n"+m.list+": added\n", m.unread())
	want := strings.Replace(stockList, "    }\n  ]", "    }"+
		strings.Replace(stockEntry, "SOCKET", socket, 1)+"\n  ]", 1)
	if diff := cmp.Diff(want, content(t, m.list)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if info, err := os.Stat(m.bin + "/nsqueue"); err != nil || info.Mode() != 0o755 {
		t.Errorf("plugin %v, %v", info, err)
	}
	nsqueuectl(t.Context(), socket, install...).
		want(t, 0, m.bin+"/nsqueue: unchanged\n"+m.list+": unchanged\n", m.unread())
	nsqueuectl(t.Context(), socket, m.uninstall("--keep-plugin")...).
		want(t, 0, m.bin+"/nsqueue: kept\n"+m.list+": removed\n", m.unread())
	nsqueuectl(t.Context(), socket, m.uninstall()...).
		want(t, 0, m.bin+"/nsqueue: deleted\n"+m.conf+": unchanged\n", "")
	nsqueuectl(t.Context(), socket, m.uninstall()...).
		want(t, 0, m.bin+"/nsqueue: unchanged\n"+m.conf+": unchanged\n", "")
	if got := content(t, m.list); got != stockList {
		t.Errorf("left:\n%s", got)
	}
}

func TestInstallDryRun(t *testing.T) {
	m := newMachine(t)
	diff := "--- " + m.list + "\n+++ " + m.list + "\n" + `@@ -4,6 +4,14 @@
   "plugins": [
     {
       "type": "flannel"
+    },
+    {
+      "type": "nsqueue",
+      "socket": "/s",
+      "failurePolicy": "Ignore",
+      "capabilities": {
+        "io.kubernetes.cri.pod-annotations": true
+      }
     }
   ]
 }
`
	for flag, want := range map[string]string{
		"":                          "[]\n",
		"nsqueue.io/profile,team/*": "[\n+        \"nsqueue.io/profile\",\n+        \"team/*\"\n+      ]",
	} {
		passing := m.install("--dry-run", "--socket", "/s", "--pass-annotations", flag)
		if o := nsqueuectl(t.Context(), "", passing...); o.status != 0 ||
			!strings.Contains(o.stdout, `"passAnnotations": `+strings.TrimSuffix(want, "\n")+",\n") {
			t.Errorf("--pass-annotations %q: %+v", flag, o)
		}
	}
	wrong := nsqueuectl(t.Context(), "", m.install("--pass-annotations", "*/a")...)
	if wrong.status != 2 || !strings.Contains(wrong.err, "passAnnotations") {
		t.Errorf("%+v", wrong)
	}
	dry := m.install("--dry-run", "--socket", "/s")
	nsqueuectl(t.Context(), "", dry...).want(t, 0, diff, m.bin+"/nsqueue would be created\n")
	var got installed
	o := nsqueuectl(t.Context(), "", append(dry, "-o", "json")...)
	if err := json.Unmarshal([]byte(o.stdout), &got); err != nil || !got.DryRun || got.Diff != diff ||
		got.Active != m.list || got.Network != "cbr0" || got.Mode != "append" || len(got.Changes) != 1 {
		t.Errorf("%+v, %v", o, err)
	}
	if _, err := os.Stat(m.bin + "/nsqueue"); err == nil || content(t, m.list) != stockList {
		t.Error("a dry run has changed something")
	}
	t.Setenv("PATH", t.TempDir())
	nsqueuectl(t.Context(), "", m.uninstall("--dry-run")...).want(t, 0, "",
		m.bin+"/nsqueue would be unchanged\n"+m.conf+" would be unchanged\n")
}

// The directory of drop-ins is used where all runtimes are known to read it.
func TestInstallDropIn(t *testing.T) {
	for script, want := range map[string]string{
		"echo containerd github.com/containerd/containerd/v2 v2.1.0 abc": "/cbr0/zz-nsqueue.conf: created\n",
		"echo containerd github.com/containerd/containerd 1.7.27":        "/10-flannel.conflist: added\n",
		"exit 1": "/10-flannel.conflist: added\n",
	} {
		m := newMachine(t)
		path := t.TempDir()
		write(t, path+"/containerd", "#!/bin/sh\n"+script+"\n")
		if err := os.Chmod(path+"/containerd", 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", path)
		o := nsqueuectl(t.Context(), "/s", m.install("--mode", "auto")...)
		if o.status != 0 || !strings.HasSuffix(o.stdout, m.conf+want) {
			t.Errorf("%s: %+v, want %q", script, o, want)
		}
	}
}

func TestInstallRefused(t *testing.T) {
	m := newMachine(t)
	write(t, m.conf+"/00-x.conflist", "{")
	o := nsqueuectl(t.Context(), "/s", m.install()...)
	if o.status != 1 || !strings.Contains(o.err, "install: "+m.conf+"/00-x.conflist: invalid CNI configuration") {
		t.Errorf("invalid: %+v", o)
	}
	write(t, m.plugin, "#!/bin/sh\necho hello\n")
	o = nsqueuectl(t.Context(), "/s", m.install()...)
	if o.status != 1 || !strings.Contains(o.err, "run plugin "+m.plugin+": this is not a CNI plugin: \"hello") {
		t.Errorf("no plugin: %+v", o)
	}
	write(t, m.conf+"/00-x.conflist", `{"plugins":[{"type":"nsqueue"`)
	write(t, m.bin+"/nsqueue", "x")
	o = nsqueuectl(t.Context(), "/s", m.uninstall()...)
	if o.status != 1 || !strings.Contains(o.err, "(the plugin is kept): ") || content(t, m.bin+"/nsqueue") != "x" {
		t.Errorf("uninstall: %+v", o)
	}
}

// The first configuration may come later than nsqueue, or not at all.
func TestInstallWaits(t *testing.T) {
	m := newMachine(t)
	if err := os.Remove(m.list); err != nil {
		t.Fatal(err)
	}
	o := nsqueuectl(t.Context(), "/s", m.install("--timeout", "20ms")...)
	if o.status != 1 || !strings.Contains(o.err, "waiting: no CNI configuration in "+m.conf+"\n") ||
		!strings.HasSuffix(o.err, "nsqueuectl: install: no CNI configuration in "+m.conf+
			" within 20ms: install the pod network, which writes it, or name the "+
			"runtime's directory with --conf-dir or --profile; --timeout 0s waits forever\n") {
		t.Errorf("%+v", o)
	}
	var out strings.Builder
	errs := onWrite{}
	s := &IOStreams{
		out: &out, err: &errs, now: testNow, progressAfter: time.Minute,
		getenv: func(string) string { return "" },
	}
	errs.first = func() {
		if strings.Contains(errs.String(), "Until it does") && !strings.Contains(errs.String(), "waiting") {
			write(t, m.list, stockList) // it is about to say that it waits
		}
	}
	if status := execute(t.Context(), s, m.install()); status != 0 || !strings.Contains(out.String(), m.list+": added") {
		t.Errorf("status %d: %s%s", status, out.String(), errs.String())
	}
}

// A runtime may be running the plugin that is replaced.
func TestPluginReplacedWhileRunning(t *testing.T) {
	m := newMachine(t)
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	write(t, m.bin+"/nsqueue", content(t, sleep))
	if err := os.Chmod(m.bin+"/nsqueue", 0o755); err != nil {
		t.Fatal(err)
	}
	running := exec.CommandContext(t.Context(), m.bin+"/nsqueue", "1000")
	running.Args[0] = "sleep"
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	o := nsqueuectl(t.Context(), "/s", m.install()...)
	if o.status != 0 || !strings.HasPrefix(o.stdout, m.bin+"/nsqueue: updated\n") || content(t, m.bin+"/nsqueue") != cniPlugin {
		t.Errorf("%+v", o)
	}
	if err := running.Process.Kill(); err != nil {
		t.Errorf("the old plugin does not run any more: %v", err)
	}
	_ = running.Wait()
}

// There is no moment at which the chain names a plugin that is not there, and
// the command goes on as soon as the runtime has read the chain.
func TestUninstallOrder(t *testing.T) {
	m := newMachine(t)
	t.Setenv("PATH", t.TempDir())
	if o := nsqueuectl(t.Context(), "/s", m.install()...); o.status != 0 {
		t.Fatalf("%+v", o)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var runtime sync.WaitGroup
	runtime.Go(func() {
		for tick := time.NewTicker(time.Millisecond); ctx.Err() == nil; <-tick.C {
			text, err := os.ReadFile(m.list)
			_, missing := os.Stat(m.bin + "/nsqueue")
			if err != nil || strings.Contains(string(text), "nsqueue") && missing != nil {
				t.Errorf("chain %q, %v, plugin %v", text, err, missing)
			}
		}
	})
	o := nsqueuectl(t.Context(), "/s", m.uninstall("--reload-wait", "1m", "-o", "json")...)
	cancel()
	runtime.Wait()
	var got installed
	if err := json.Unmarshal([]byte(o.stdout), &got); err != nil || o.status != 0 || !got.Reloaded || got.Plugin.Action != "deleted" {
		t.Errorf("%+v, %v", o, err)
	}
}

// CRI-O calls the plugin for pods that were made with it.
func TestUninstallKeepsPluginForCRIO(t *testing.T) {
	m := newMachine(t)
	path := t.TempDir()
	write(t, path+"/crio", "#!/bin/sh\necho crio version 1.33.1\n")
	if err := os.Chmod(path+"/crio", 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", path)
	write(t, m.bin+"/nsqueue", "x")
	nsqueuectl(t.Context(), "/s", m.uninstall()...).
		want(t, 0, m.bin+"/nsqueue: kept\n"+m.conf+": unchanged\n", "")
	nsqueuectl(t.Context(), "/s", m.uninstall("--keep-plugin=false")...).
		want(t, 0, m.bin+"/nsqueue: deleted\n"+m.conf+": unchanged\n", "")
}

// A program that renames files, as cilium does, takes the entry away and brings
// it back: the plugin is there whenever a runtime may call it.
func TestUninstallKeepsPluginForRenamedFile(t *testing.T) {
	m := newMachine(t)
	t.Setenv("PATH", t.TempDir())
	renamed := m.list + ".cilium_bak"
	if o := nsqueuectl(t.Context(), "/s", m.install()...); o.status != 0 {
		t.Fatalf("%+v", o)
	}
	if err := os.Rename(m.list, renamed); err != nil {
		t.Fatal(err)
	}
	said := "nsqueue is still in " + renamed + ": if a runtime used that, no pod could start without the plugin"
	kept := m.bin + "/nsqueue: kept\n" + m.conf + ": unchanged\n"
	for _, more := range [][]string{{}, {"--keep-plugin=false"}} {
		o := nsqueuectl(t.Context(), "/s", m.uninstall(more...)...)
		if o.status != 1 || o.stdout != kept || !strings.HasPrefix(o.err, "nsqueuectl: "+said) {
			t.Errorf("%v: %+v", more, o)
		}
	}
	o := nsqueuectl(t.Context(), "/s", m.uninstall("--dry-run")...)
	if o.status != 1 || !strings.HasPrefix(o.err, m.bin+"/nsqueue would be kept\n") || !strings.Contains(o.err, said) {
		t.Errorf("dry run: %+v", o)
	}
	o = nsqueuectl(t.Context(), "/s", m.uninstall("--keep-plugin")...)
	if o.status != 0 || !strings.HasPrefix(o.err, "note: "+said) {
		t.Errorf("--keep-plugin: %+v", o)
	}
	if err := os.Rename(renamed, m.list); err != nil {
		t.Fatal(err)
	}
	nsqueuectl(t.Context(), "/s", m.uninstall()...).
		want(t, 0, m.bin+"/nsqueue: deleted\n"+m.list+": removed\n", m.unread())
}

// install notes an entry in a file that is no longer the first one.
func TestInstallNotesOtherEntries(t *testing.T) {
	m := newMachine(t)
	t.Setenv("PATH", t.TempDir())
	if o := nsqueuectl(t.Context(), "/s", m.install()...); o.status != 0 {
		t.Fatalf("%+v", o)
	}
	write(t, m.conf+"/05-late.conflist", stockList)
	said := "note: nsqueue is also in " + m.list
	for _, args := range [][]string{m.install("--dry-run"), m.install()} {
		if o := nsqueuectl(t.Context(), "/s", args...); o.status != 0 || !strings.Contains(o.err, said) {
			t.Errorf("%+v", o)
		}
	}
}

// What rewrites the file is answered, pods of the gap are adopted, and a lost
// plugin comes back.
func TestInstallWatch(t *testing.T) {
	m := newMachine(t)
	d := apitest.Daemon{Found: found()}
	socket := d.Start(t)
	r, w := io.Pipe()
	var errs strings.Builder
	s := &IOStreams{
		out: w, err: &errs, now: testNow, progressAfter: time.Minute,
		getenv: func(string) string { return socket },
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- execute(ctx, s, m.install("--watch"))
		_ = w.Close()
	}()
	lines := bufio.NewScanner(r)
	expect := func(want ...string) {
		t.Helper()
		for _, line := range want {
			if !lines.Scan() || lines.Text() != "2026-01-02T03:04:05Z "+line {
				t.Fatalf("%q, want %q", lines.Text(), line)
			}
		}
	}
	expect("repaired: "+m.list+": added", "adopted: 1 pod")
	o := nsqueuectl(t.Context(), socket, m.uninstall()...)
	if o.status != 1 || !strings.Contains(o.err, "install --watch is running") {
		t.Errorf("uninstall meanwhile: %+v", o)
	}
	write(t, m.list, stockList)
	expect("repaired: "+m.list+": added", "adopted: 1 pod")
	if err := os.Remove(m.bin + "/nsqueue"); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(m.conf, "99-x.conf"), "{") // has it look, and is not its business
	expect("plugin copied: " + m.bin + "/nsqueue")
	cancel()
	if status := <-ended; status != 0 || !strings.HasPrefix(errs.String(), "watching "+m.conf) {
		t.Errorf("status %d: %s", status, errs.String())
	}
	if got := content(t, m.bin+"/nsqueue"); got != cniPlugin {
		t.Error(got)
	}
}
