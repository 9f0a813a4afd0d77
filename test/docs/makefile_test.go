// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// programs returns what make builds, and where it installs them.
func programs() map[string]string {
	return map[string]string{
		"nsqueue": "opt/cni/bin", "nsqueued": "usr/local/sbin", "nsqueuectl": "usr/local/bin",
	}
}

// makeInstall runs the target in a copy of the project that has no source.
type makeInstall struct {
	dir, path, dest string
}

// newMakeInstall has a PATH with the tools that installing takes, and no go.
func newMakeInstall(t *testing.T) *makeInstall {
	t.Helper()
	m := &makeInstall{dir: t.TempDir(), path: t.TempDir(), dest: t.TempDir()}
	for _, tool := range []string{"bash", "sh", "cat", "chmod", "dirname", "install", "make", "sed", "uname"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(m.path, tool)); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{
		"Makefile", "hack/build.sh", "hack/install.sh", "hack/version.sh", "kmod/dkms.conf",
	} {
		m.write(t, filepath.Join(m.dir, file), read(t, file))
	}
	return m
}

func (m *makeInstall) write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func (m *makeInstall) run(t *testing.T) (output string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(m.path, "make"), "install", "DESTDIR="+m.dest)
	cmd.Dir, cmd.Env = m.dir, []string{"PATH=" + m.path}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// want compares what is installed.
func (m *makeInstall) want(t *testing.T, text string) {
	t.Helper()
	for program, dir := range programs() {
		path := filepath.Join(m.dest, dir, program)
		got, err := os.ReadFile(path)
		if err != nil || string(got) != text+program {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
}

// The PATH that sudo gives has no go in it, and what is installed was built
// before.
func TestMakeInstallWithoutGo(t *testing.T) {
	m := newMakeInstall(t)
	out, err := m.run(t)
	if err == nil || !strings.Contains(out, "there is no bin/nsqueue bin/nsqueued bin/nsqueuectl,") ||
		!strings.Contains(out, "run make build first") {
		t.Errorf("nothing is built: %v\n%s", err, out)
	}
	if left, err := os.ReadDir(m.dest); err != nil || len(left) > 0 {
		t.Errorf("installed though nothing is built: %v, %v", left, err)
	}
	for program := range programs() {
		m.write(t, filepath.Join(m.dir, "bin", program), "built "+program)
	}
	if out, err := m.run(t); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m.want(t, "built ")
}

// The directory for files of rules is made, and left as it is where it is there.
func TestMakeInstallMakesRulesDirectory(t *testing.T) {
	m := newMakeInstall(t)
	for program := range programs() {
		m.write(t, filepath.Join(m.dir, "bin", program), "built "+program)
	}
	dir := filepath.Join(m.dest, "etc/nsqueue/rules.d")
	wantMode := func(want os.FileMode) {
		t.Helper()
		if out, err := m.run(t); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		info, err := os.Stat(dir)
		if err != nil || !info.IsDir() || info.Mode().Perm() != want {
			t.Errorf("%v, %v; want mode %v", info, err, want)
		}
	}
	wantMode(0o755)
	file := filepath.Join(dir, "a.yaml")
	m.write(t, file, "kind: RuleSet")
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	wantMode(0o700)
	if text, err := os.ReadFile(file); err != nil || string(text) != "kind: RuleSet" {
		t.Errorf("the file of rules: %q, %v", text, err)
	}
}

// Where a program is not built, and there is a go, all are built.
func TestMakeInstallBuilds(t *testing.T) {
	m := newMakeInstall(t)
	m.write(t, filepath.Join(m.dir, "bin", "nsqueue"), "old")
	m.write(t, filepath.Join(m.path, "go"), `#!/bin/sh
for last; do [ "$previous" != -o ] || output=$last; previous=$last; done
[ -z "$output" ] || { printf "new ${output##*/}" >"$output"; chmod 755 "$output"; }
`)
	if out, err := m.run(t); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m.want(t, "new ")
}
