// SPDX-License-Identifier: Apache-2.0

package conflist

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const cbr0List = `{"name":"cbr0","cniVersion":"0.3.1","plugins":[{"type":"flannel"}]}`

func writeList(t *testing.T, dir, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "10-flannel.conflist"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// early is an installer of a network that is not there yet, in a directory that is
// neither.
func early(t *testing.T) *Installer {
	t.Helper()
	i := installer(filepath.Join(t.TempDir(), "net.d"), DropIn)
	i.Network = "cbr0"
	return i
}

func (i *Installer) wantDone(t *testing.T, want ...string) *Plan {
	t.Helper()
	p, err := i.Install()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(append([]string{}, want...), did(i.Dir, p)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if len(p.Elsewhere) > 0 {
		t.Errorf("elsewhere: %q", p.Elsewhere)
	}
	return p
}

// From its first moment on, the network has the entry, in the place where it would be put
// later.
func TestEntryBeforeTheNetwork(t *testing.T) {
	i := early(t)
	i.wantDone(t, "created cbr0/zz-nsqueue.conf")
	i.wantDone(t)
	writeList(t, i.Dir, cbr0List)
	if got := chain(t, i.Dir); got != "cbr0 0.3.1: flannel nsqueue" {
		t.Errorf("the runtime calls %s", got)
	}
	if p := i.wantDone(t); p.Active == "" {
		t.Errorf("%+v", p)
	}
	i.Network = ""
	if _, err := i.Uninstall(); err != nil {
		t.Fatal(err)
	}
	if got := chain(t, i.Dir); got != "cbr0 0.3.1: flannel" {
		t.Errorf("the runtime calls %s", got)
	}
}

// Other settings replace the entry, before the network is there, too.
func TestEntryBeforeTheNetworkChanges(t *testing.T) {
	i := early(t)
	i.wantDone(t, "created cbr0/zz-nsqueue.conf")
	other := *i.Entry
	other.Socket = "/run/other.sock"
	i.Entry = &other
	i.wantDone(t, "updated cbr0/zz-nsqueue.conf")
}

// A network of another name gets an entry of its own, and the one that was written
// for nothing is told of.
func TestAnotherNetworkComes(t *testing.T) {
	i := early(t)
	i.wantDone(t, "created cbr0/zz-nsqueue.conf")
	writeList(t, i.Dir, `{"name":"k8s","cniVersion":"1.0.0","plugins":[{"type":"bridge"}]}`)
	p, err := i.Install()
	if err != nil {
		t.Fatal(err)
	}
	if got := chain(t, i.Dir); got != "k8s 1.0.0: bridge nsqueue" {
		t.Errorf("the runtime calls %s", got)
	}
	if len(p.Elsewhere) != 1 {
		t.Errorf("elsewhere: %q", p.Elsewhere)
	}
}

// A plan changes nothing, not even the directory.
func TestPlanBeforeTheNetwork(t *testing.T) {
	i := early(t)
	p, err := i.Plan()
	if err != nil || len(p.Changes) != 1 {
		t.Fatalf("%+v, %v", p, err)
	}
	if _, err := os.Stat(i.Dir); !os.IsNotExist(err) {
		t.Errorf("%v", err)
	}
}
