// SPDX-License-Identifier: Apache-2.0

package release

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const script = "hack/version.sh"

func (c *checkout) wantVersion(t *testing.T, want string) {
	t.Helper()
	out, err := c.run(t, script)
	if got := strings.TrimSpace(out); err != nil || got != want {
		t.Errorf("version %q, %v; want %q", got, err, want)
	}
}

// Without git the version is that of the module with -dev, and in a released
// source it is the release's.
func TestVersionWithoutGit(t *testing.T) {
	c := newCheckout(t, script)
	c.wantVersion(t, "1.2.3-dev")
	c.write(t, "VERSION", "1.2.3-rc.1")
	c.wantVersion(t, "1.2.3-rc.1")
}

// A directory that only lies in another project's checkout is not of its version.
func TestVersionWithinAnotherProject(t *testing.T) {
	outer, inner := newCheckout(t), newCheckout(t, script)
	outer.commit(t)
	outer.git(t, "tag", "v9.9.9")
	if err := os.Rename(inner.dir, filepath.Join(outer.dir, "inner")); err != nil {
		t.Fatal(err)
	}
	inner.dir = filepath.Join(outer.dir, "inner")
	inner.wantVersion(t, "1.2.3-dev")
}

// A checkout has the version of its tag, or says how far it is from there.
func TestVersionOfCheckout(t *testing.T) {
	c := newCheckout(t, script)
	c.commit(t)
	commit := c.git(t, "rev-parse", "--short", "HEAD")
	c.wantVersion(t, "1.2.3-dev-g"+commit)
	c.git(t, "tag", "v1.2.3")
	c.git(t, "tag", "nightly")
	c.wantVersion(t, "1.2.3")
	c.write(t, "kmod/dkms.conf", "PACKAGE_VERSION=\"1.2.4\"\n")
	c.wantVersion(t, "1.2.3-dirty")
}

// What may not be released is refused before anything is built, with the reason.
func TestReleaseRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		version string
		dirty   bool
		want    string
	}{
		"no version":         {"", false, "name the version: make release VERSION=1.2.3"},
		"two numbers":        {"1.2", false, "VERSION 1.2 is no semantic version"},
		"a v":                {"v1.2.3", false, "VERSION v1.2.3 is no semantic version"},
		"a zero in front":    {"1.02.3", false, "VERSION 1.02.3 is no semantic version"},
		"an empty part":      {"1.2.3-", false, "VERSION 1.2.3- is no semantic version"},
		"a space":            {"1.2.3 -rc.1", false, "is no semantic version"},
		"changes":            {"1.2.3", true, "git status shows changes: commit them"},
		"another module":     {"1.2.4-rc.1", false, "kmod/dkms.conf has the version 1.2.3, not 1.2.4:"},
		"changes, no number": {"x", true, "VERSION x is no semantic version"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCheckout(t, "Makefile", "hack/release.sh", script)
			c.commit(t)
			if tt.dirty {
				c.write(t, "notes", "not committed")
			}
			args := []string{"release"}
			if tt.version != "" {
				args = append(args, "VERSION="+tt.version)
			}
			out, err := c.run(t, "make", args...)
			if err == nil || !strings.Contains(out, "make release: ") || !strings.Contains(out, tt.want) {
				t.Errorf("%v, want %q:\n%s", err, tt.want, out)
			}
		})
	}
}

// A source without git has no commit whose date its archives could have.
func TestReleaseWithoutGit(t *testing.T) {
	c := newCheckout(t, "Makefile", "hack/release.sh", script)
	out, err := c.run(t, "make", "release", "VERSION=1.2.3")
	if err == nil || !strings.Contains(out, "this is no git checkout") {
		t.Errorf("%v:\n%s", err, out)
	}
}
