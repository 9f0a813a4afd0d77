// SPDX-License-Identifier: Apache-2.0

// Package release tests what is published: versions, and the files that `make
// release` makes.
package release

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../.."

// checkout is a copy of the project, with or without git.
type checkout struct {
	dir string
	// env is what its commands get beside the test's environment.
	env []string
}

// newCheckout copies the files. The copy's module has the version 1.2.3.
func newCheckout(t *testing.T, files ...string) *checkout {
	t.Helper()
	c := &checkout{dir: t.TempDir()}
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		c.write(t, file, string(text))
	}
	c.write(t, "kmod/dkms.conf", "PACKAGE_VERSION=\"1.2.3\"\n")
	return c
}

func (c *checkout) write(t *testing.T, file, text string) {
	t.Helper()
	path := filepath.Join(c.dir, file)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// commit makes the files a repository's first commit.
func (c *checkout) commit(t *testing.T) {
	t.Helper()
	c.git(t, "init", "-q")
	c.git(t, "add", "-A")
	c.git(t, "commit", "-qm", "first")
}

func (c *checkout) git(t *testing.T, args ...string) string {
	t.Helper()
	out, err := c.run(t, "git", args...)
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(out)
}

// gitConfig replaces the user's settings. The tests may belong to another user
// than the one who runs them.
const gitConfig = "[user]\nname = test\nemail = test@localhost\n[safe]\ndirectory = *\n"

// run returns what the command says in the copy, where git has its own settings.
func (c *checkout) run(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	config := filepath.Join(t.TempDir(), "gitconfig")
	if err := os.WriteFile(config, []byte(gitConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = c.dir
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "GIT_") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, "GIT_CONFIG_GLOBAL="+config)
	cmd.Env = append(cmd.Env, c.env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
