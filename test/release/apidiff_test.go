// SPDX-License-Identifier: Apache-2.0

package release

import (
	"strings"
	"testing"
)

// apidiff stands for the real one. An API is what a file says, a name in a line;
// a name that is missing breaks programs.
const apidiff = `#!/bin/sh
set -eu
api() { cat "${1#example.org/m/}/api"; }
case $1 in
-w) api "$3" >"$2" ;;
-incompatible) api "$3" | grep -vxFf - "$2" | sed 's/.*/- &: removed/' ;;
esac
`

const inspectAPI = "daemon/inspect/api"

// newAPI returns a checkout with two public packages that was released as v1.2.3.
func newAPI(t *testing.T) *checkout {
	t.Helper()
	c := newCheckout(t, "hack/apidiff.sh")
	c.write(t, "go.mod", "module example.org/m\n")
	c.write(t, "bin/tools/apidiff", apidiff)
	c.write(t, inspectAPI, "New\nOld\n")
	c.write(t, "daemon/api/api", "Client\n")
	c.commit(t)
	return c
}

func TestAPIDiff(t *testing.T) {
	const broken = "- Old: removed"
	for name, tt := range map[string]struct {
		tag, api, next string
		fails          bool
		want           []string
	}{
		"the same":           {"v1.2.3", "New\nOld\n", "1.2.4", false, nil},
		"more":               {"v1.2.3", "New\nNewer\nOld\n", "1.2.4", false, nil},
		"less":               {"v1.2.3", "New\n", "1.3.0", true, []string{broken, "next release is 1.3.0"}},
		"less, major":        {"v1.2.3", "New\n", "2.0.0", false, []string{broken, "since v1.2.3"}},
		"less, before 1.0":   {"v0.2.3", "New\n", "0.2.4", true, []string{broken}},
		"less, minor":        {"v0.2.3", "New\n", "0.3.0", false, []string{broken}},
		"less, first major":  {"v0.2.3", "New\n", "1.0.0", false, []string{broken}},
		"after a candidate":  {"v1.2.3-rc.1", "New\n", "1.2.3", false, []string{"no release to compare with"}},
		"another name's tag": {"nightly", "New\n", "1.2.3", false, []string{"no release to compare with"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newAPI(t)
			c.git(t, "tag", tt.tag)
			c.write(t, inspectAPI, tt.api)
			c.write(t, "daemon/node/api", "Run\n") // no package of the release
			c.write(t, "kmod/dkms.conf", "PACKAGE_VERSION=\""+tt.next+"\"\n")
			c.wantAPIDiff(t, tt.fails, tt.want...)
		})
	}
}

func (c *checkout) wantAPIDiff(t *testing.T, fails bool, want ...string) {
	t.Helper()
	out, err := c.run(t, "hack/apidiff.sh")
	if (err != nil) != fails || want == nil && out != "" {
		t.Errorf("%v:\n%s", err, out)
	}
	for _, text := range want {
		if !strings.Contains(out, text) {
			t.Errorf("no %q in:\n%s", text, out)
		}
	}
}

// A package that is gone breaks the programs that import it.
func TestAPIDiffOfRemovedPackage(t *testing.T) {
	c := newAPI(t)
	c.git(t, "tag", "v1.2.2")
	c.git(t, "rm", "-qr", "daemon/inspect")
	c.wantAPIDiff(t, true, "daemon/inspect since v1.2.2", "- package: removed")
}

// What cannot be compared is no success.
func TestAPIDiffFails(t *testing.T) {
	c := newAPI(t)
	c.git(t, "tag", "v1.2.2")
	c.write(t, "bin/tools/apidiff", "#!/bin/sh\necho 'does not build' >&2\nexit 1\n")
	c.wantAPIDiff(t, true, "does not build")
}

func TestAPIDiffWithoutGit(t *testing.T) {
	c := newCheckout(t, "hack/apidiff.sh")
	c.write(t, "go.mod", "module example.org/m\n")
	c.wantAPIDiff(t, false, "no release to compare with")
}
