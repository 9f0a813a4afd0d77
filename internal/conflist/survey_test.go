// SPDX-License-Identifier: Apache-2.0

package conflist

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/google/go-cmp/cmp"
)

// multus does to a directory what multus does that makes its own configuration:
// it takes the first file that is not its own, and hands pods on to that.
func multus(t *testing.T, dir string) {
	t.Helper()
	paths, err := libcni.ConfFiles(dir, []string{".conf", ".conflist"})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if strings.HasPrefix(filepath.Base(path), "00-multus.conf") {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var first map[string]any
		if err := json.Unmarshal(text, &first); err != nil {
			t.Fatal(err)
		}
		own := map[string]any{"type": "multus", "delegates": []any{first}}
		name := "00-multus.conf"
		if first["cniVersion"] == "1.0.0" {
			own = map[string]any{"plugins": []any{own}}
			name += "list"
		}
		own["name"], own["cniVersion"] = "multus-cni-network", first["cniVersion"]
		text, err = json.Marshal(own)
		if err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(dir, name), string(text))
		return
	}
	t.Fatal("no network for multus")
}

// Two that go by what the other writes come to rest, and each pod is inspected
// once.
func TestMultus(t *testing.T) {
	for _, version := range []string{"0.3.1", "1.0.0", "1.1.0"} {
		t.Run(version, func(t *testing.T) {
			list := strings.Replace(stock, "0.3.1", version, 1)
			dir := tree(t, map[string]string{"10-flannel.conflist": list})
			multus(t, dir)
			before := snapshot(t, dir)
			i := installer(dir, DropIn)
			for range 3 {
				if _, err := i.Install(); err != nil {
					t.Fatal(err)
				}
				wantChain(t, dir, "flannel portmap nsqueue")
				multus(t, dir)
				wantChain(t, dir, "flannel portmap nsqueue")
			}
			if p, err := i.Install(); err != nil || len(p.Changes) > 0 {
				t.Errorf("they do not come to rest: %v, %v", did(dir, p), err)
			}
			if _, err := i.Uninstall(); err != nil {
				t.Error(err)
			}
			wantChain(t, dir, "flannel portmap")
			multus(t, dir)
			if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
				t.Errorf("uninstalled (-before +after):\n%s", diff)
			}
		})
	}
}

// wantChain compares the chain that pods get.
func wantChain(t *testing.T, dir, want string) *Survey {
	t.Helper()
	s, err := Look(dir)
	if err != nil || s.Err != nil {
		t.Fatalf("%v, %v", err, s.Err)
	}
	c := s.Chain(true)
	if got := strings.Join(c.Plugins, " "); got != want {
		t.Errorf("chain %q, want %q", got, want)
	}
	return s
}

const (
	multusHead  = `{"cniVersion":"0.3.1","name":"m","type":"multus",`
	inlineStock = multusHead + `"delegates":[{"name":"cbr0","cniVersion":"0.3.1","plugins":[{"type":"flannel"}]}]}`
)

func TestMetaPlugins(t *testing.T) {
	const flannel = "flannel portmap nsqueue"
	for name, c := range map[string]struct {
		files   map[string]string
		chain   string
		changes []string
	}{
		"named by a path of its container": {
			map[string]string{
				"00-multus.conf": strings.Replace(multusHead, "multus", "multus-shim", 1) +
					`"clusterNetwork":"/host/etc/cni/net.d/10-flannel.conflist"}`,
				"10-flannel.conflist": stock,
			}, flannel, []string{"added 10-flannel.conflist"},
		},
		"named by its network": {
			map[string]string{
				"00-multus.conf": multusHead + `"clusterNetwork":"cbr0"}`, "10-flannel.conflist": stock,
			}, flannel, []string{"added 10-flannel.conflist"},
		},
		"copy without a source": {
			map[string]string{"00-multus.conf": inlineStock},
			"flannel nsqueue",
			[]string{"added 00-multus.conf"},
		},
		"what an earlier conversion left": {
			map[string]string{
				"00-multus.conf":                  inlineStock,
				"00-multus-with-nsqueue.conflist": converted(t, inlineStock),
			},
			"flannel nsqueue",
			[]string{"deleted 00-multus-with-nsqueue.conflist", "added 00-multus.conf"},
		},
		"entry after the meta plugin": {
			map[string]string{
				"00-multus.conflist": `{"name":"m","cniVersion":"1.0.0","plugins":[` + inlineStock + `,` +
					compact + `]}`,
			}, "flannel nsqueue", []string{"added 00-multus.conflist"},
		},
		"list of one that names no list": {
			map[string]string{
				"00-multus.conflist": `{"name":"m","cniVersion":"1.0.0","plugins":[{"type":"multus"}]}`,
			}, "multus nsqueue", []string{"added 00-multus.conflist"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, c.files)
			i := installer(dir, Append)
			p, err := i.Install()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.changes, did(dir, p)); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
			wantChain(t, dir, c.chain)
			if p, err := i.Install(); err != nil || len(p.Changes) > 0 {
				t.Errorf("a second time: %v, %v", did(dir, p), err)
			}
			if p, err := i.Uninstall(); err != nil || len(p.Leftovers) > 0 {
				t.Errorf("%v, %v", p, err)
			}
			wantChain(t, dir, strings.TrimSuffix(c.chain, " nsqueue"))
		})
	}
}

func converted(t *testing.T, conf string) string {
	t.Helper()
	list, err := convert([]byte(conf))
	if err != nil {
		t.Fatal(err)
	}
	return string(list)
}

// Where the entry has no place nothing is changed, and the reason is said.
func TestMetaPluginRefused(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"single delegate": {
			multusHead + `"delegates":[{"type":"flannel","name":"cbr0"}]}`, "a single plugin",
		},
		"no delegate":     {multusHead + `"delegates":[]}`, "delegates are empty"},
		"nothing said":    {multusHead + `"x":1}`, "no clusterNetwork"},
		"unknown network": {multusHead + `"clusterNetwork":"default/macvlan"}`, `"default/macvlan"`},
		"invalid list":    {multusHead + `"delegates":[{"name":"n","plugins":5}]}`, "invalid list"},
		"itself":          {multusHead + `"delegates":[` + listOf(inlineStock) + `]}`, "itself"},
		"entry elsewhere": {
			`{"cniVersion":"1.0.0","name":"n","type":"x","delegate":{"type":"nsqueue"}}`, "not in a list of plugins",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, map[string]string{"00-multus.conf": c.text, "10-flannel.conflist": stock})
			before := snapshot(t, dir)
			_, err := installer(dir, Append).Install()
			if err == nil || !strings.Contains(err.Error(), c.want) ||
				!strings.Contains(err.Error(), "00-multus.conf") {
				t.Errorf("%v, want one that says %q", err, c.want)
			}
			if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
				t.Errorf("(-before +after):\n%s", diff)
			}
		})
	}
}

func listOf(plugin string) string {
	return `{"name":"m","cniVersion":"0.3.1","plugins":[` + plugin + `]}`
}

// A file that another program has renamed gets its entry back with its name:
// what cannot be taken out is named.
func TestUninstallNamesLeftovers(t *testing.T) {
	for name, text := range map[string]string{
		"10-flannel.conflist.cilium_bak": listOf(compact),
		"10-flannel.conflist.old":        `{"plugins":[{"type":"nsqueue"`, // cut off
		"05-x.conf":                      `{"name":"n","type":"x","chain":[` + compact + `]}`,
		"05-y.conf":                      compact,
		"link":                           "-> ../elsewhere/f",
		"05-z.conflist":                  listOf(`{"type":"x","deep":[` + compact + `]}`),
	} {
		dir := tree(t, map[string]string{
			name: text, "README": "nsqueue was here", "../elsewhere/f": listOf(compact), "gone": "-> nowhere",
			".nsqueue-123": compact,
		})
		p, err := installer(dir, Append).Uninstall()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff([]string{filepath.Join(dir, name)}, p.Leftovers); diff != "" {
			t.Errorf("%s: leftovers (-want +got):\n%s", name, diff)
		}
	}
}

// The network's own configuration comes after nsqueue's, and before it by name.
func TestEntriesElsewhere(t *testing.T) {
	podman := strings.Replace(other, "other", "podman", 1)
	dir := tree(t, map[string]string{"87-podman.conflist": podman, "88-x.conf": single})
	i := installer(dir, Append)
	install := func(chain string, elsewhere []string, changes ...string) {
		t.Helper()
		p, err := i.Install()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(changes, did(dir, p)); diff != "" {
			t.Errorf("changes (-want +got):\n%s", diff)
		}
		s := wantChain(t, dir, chain)
		for _, got := range [][]string{p.Elsewhere, s.Elsewhere} {
			for n := range got {
				got[n] = filepath.Base(got[n])
			}
			if diff := cmp.Diff(elsewhere, got); diff != "" {
				t.Errorf("elsewhere (-want +got):\n%s", diff)
			}
		}
	}
	install("ptp nsqueue", nil, "added 87-podman.conflist")
	put(t, filepath.Join(dir, "10-x.conf"), single)
	install("bridge nsqueue", []string{"87-podman.conflist"}, "created 10-x-with-nsqueue.conflist")
	// A conversion that comes first no more goes, with a source and without.
	put(t, filepath.Join(dir, "05-flannel.conflist"), stock)
	install("flannel portmap nsqueue", []string{"87-podman.conflist"},
		"deleted 10-x-with-nsqueue.conflist", "added 05-flannel.conflist")
	put(t, filepath.Join(dir, "11-y-with-nsqueue.conflist"), converted(t, single))
	install("flannel portmap nsqueue", []string{"87-podman.conflist"}, "deleted 11-y-with-nsqueue.conflist")
	put(t, filepath.Join(dir, "gone/zz-nsqueue.conf"), compact)
	if s := wantChain(t, dir, "flannel portmap nsqueue"); len(s.Elsewhere) != 2 {
		t.Errorf("elsewhere: %q", s.Elsewhere)
	}
}

// The last conversion goes as well, though nothing comes after it.
func TestConversionWithoutAnything(t *testing.T) {
	dir := tree(t, map[string]string{"10-x.conf": single})
	i := installer(dir, Append)
	if _, err := i.Install(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "10-x.conf")); err != nil {
		t.Fatal(err)
	}
	if s, err := Look(dir); err != nil || s.Active != "" || len(s.Orphans) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	p, err := i.Install()
	if !errors.Is(err, ErrNoConfig) {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"deleted 10-x-with-nsqueue.conflist"}, did(dir, p)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

// What containerd stops at is named, with what is wrong.
func TestUnusable(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"empty":    {"", ErrInvalid},
		"cut off":  {stock[:50], ErrInvalid},
		"loop":     {"-> 05-x.conflist", nil},
		"dangling": {"-> nowhere", fs.ErrNotExist},
		"of a dir": {"-> dir", nil},
		"pipe":     {"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, map[string]string{"10-flannel.conflist": stock, "dir/x": "x"})
			path := filepath.Join(dir, "05-x.conflist")
			if name == "pipe" {
				if err := syscall.Mkfifo(path, 0o600); err != nil {
					t.Fatal(err)
				}
			} else {
				put(t, path, c.text)
			}
			_, err := installer(dir, Append).Install()
			var unusable *Unusable
			if !errors.As(err, &unusable) || unusable.Path != path || c.want != nil && !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v of %s", err, c.want, path)
			}
			if s, err := Look(dir); err != nil || s.Active != path || !errors.As(s.Err, &unusable) {
				t.Errorf("%+v, %v", s, err)
			}
			if _, err := installer(dir, Append).Uninstall(); err != nil && !strings.Contains(err.Error(), path) {
				t.Errorf("%v does not name %s", err, path)
			}
		})
	}
}

// Nothing that others write makes it fail in a way of its own.
func FuzzLook(f *testing.F) {
	for _, seed := range []string{stock, single, inlineStock, compact, "", listOf(inlineStock)} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	f.Fuzz(func(t *testing.T, text string, isList bool) {
		if strings.HasPrefix(text, "-> ") {
			return
		}
		name := "00-x.conf"
		if isList {
			name += "list"
		}
		dir := tree(t, map[string]string{name: text})
		i := installer(dir, Append)
		if _, err := i.Install(); err != nil {
			return
		}
		s, err := Look(dir)
		if err != nil || s.Err != nil {
			t.Fatalf("%v, %v", err, s.Err)
		}
		if c := s.Chain(true); c.Entries() != 1 || !c.Last() {
			t.Errorf("chain %q", c.Plugins)
		}
	})
}
