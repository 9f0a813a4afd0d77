// SPDX-License-Identifier: Apache-2.0

package conflist

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/google/go-cmp/cmp"
)

const (
	stock = "{\n  \"name\": \"cbr0\",\n  \"cniVersion\": \"0.3.1\",\n  \"plugins\": [\n" +
		"    {\n      \"type\": \"flannel\"\n    },\n    {\n      \"type\": \"portmap\"\n    }\n  ]\n}\n"
	other  = `{"name":"other","cniVersion":"1.0.0","plugins":[{"type":"ptp"}]}`
	single = "{\n\t\"cniVersion\": \"0.3.1\",\n\t\"name\": \"mynet\", \"type\": \"bridge\",\n\t\"x\": 1.0\n}\n"
)

// tree makes a directory of files and returns its path. A content that begins
// with "-> " makes a symbolic link.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "net.d")
	for name, text := range files {
		put(t, filepath.Join(dir, name), text)
	}
	return dir
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	err := error(nil)
	if to, isLink := strings.CutPrefix(text, "-> "); isLink {
		err = os.Symlink(to, path)
	} else {
		err = os.WriteFile(path, []byte(text), 0o640)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// snapshot returns everything below the parent of a directory, with its modes.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	root, all := filepath.Dir(dir), map[string]string{}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		text := info.Mode().String()
		switch {
		case info.Mode().IsRegular():
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += " " + string(b)
		case info.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			text += " -> " + to
		}
		all[strings.TrimPrefix(path, root)] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// chain returns what a runtime calls for a pod: the name of the network of the
// first configuration, and the types of its plugins.
func chain(t *testing.T, dir string) string {
	t.Helper()
	paths, err := libcni.ConfFiles(dir, []string{".conf", ".conflist", ".json"})
	if err != nil || len(paths) == 0 {
		t.Fatalf("configurations %v, %v", paths, err)
	}
	var l *libcni.NetworkConfigList
	if strings.HasSuffix(paths[0], ".conflist") {
		l, err = libcni.NetworkConfFromFile(paths[0])
	} else {
		var c *libcni.PluginConfig
		b, readErr := os.ReadFile(paths[0])
		if readErr != nil {
			t.Fatal(readErr)
		}
		if c, err = libcni.NetworkPluginConfFromBytes(b); err == nil {
			l, err = libcni.ConfListFromConf(c) //nolint:staticcheck // what runtimes use
		}
	}
	if err != nil {
		t.Fatalf("load %s: %v", paths[0], err)
	}
	types := []string{l.Name + " " + l.CNIVersion + ":"}
	for _, p := range l.Plugins {
		types = append(types, p.Network.Type)
	}
	return strings.Join(types, " ")
}

func installer(dir string, mode Mode) *Installer {
	return &Installer{Dir: dir, Entry: testEntry(), Mode: mode}
}

// did returns the changes of a plan.
func did(dir string, p *Plan) []string {
	lines := []string{}
	for _, c := range p.Changes {
		lines = append(lines, string(c.Action)+" "+strings.TrimPrefix(c.Path, dir+"/"))
	}
	return lines
}

// What is installed is in the chain that a runtime calls, and nothing of it is
// left when it is uninstalled.
func TestInstallUninstall(t *testing.T) {
	const flannel, ours = "cbr0 0.3.1: flannel portmap", " nsqueue"
	for name, c := range map[string]struct {
		files   map[string]string
		mode    Mode
		chain   string
		changes []string
	}{
		"append": {
			map[string]string{"10-flannel.conflist": stock},
			Append, flannel + ours,
			[]string{"added 10-flannel.conflist"},
		},
		"first of several": {
			map[string]string{
				"10-flannel.conflist": stock, "05-other.txt": "x", "20-other.conflist": other,
				"01-dir.conflist/x.conf": single, "30-broken.conf": "{",
			},
			Append, flannel + ours,
			[]string{"added 10-flannel.conflist"},
		},
		"networks of one name": {
			map[string]string{"10-flannel.conflist": stock, "11-flannel.conflist": stock},
			Append, flannel + ours,
			[]string{"added 10-flannel.conflist"},
		},
		"conf": {
			map[string]string{"10-x.conf": single, "10-y.conflist": other},
			Append, "mynet 0.3.1: bridge nsqueue",
			[]string{"created 10-x-with-nsqueue.conflist"},
		},
		"json": {
			map[string]string{"x.json": single},
			DropIn, "mynet 0.3.1: bridge nsqueue",
			[]string{"created x-with-nsqueue.conflist"},
		},
		"drop-in": {
			map[string]string{"10-flannel.conflist": stock},
			DropIn, flannel + ours,
			[]string{"created cbr0/zz-nsqueue.conf"},
		},
		"drop-in beside others": {
			map[string]string{
				"10-flannel.conflist": stock, "cbr0/10-a.conf": `{"type":"a"}`, "cbr0/zzz": "x",
			},
			DropIn, flannel + " a nsqueue",
			[]string{"created cbr0/zz-nsqueue.conf"},
		},
		"nothing but drop-ins": {
			map[string]string{"a.conflist": `{"name":"n","cniVersion":"1.0.0"}`, "n/a.conf": `{"type":"a"}`},
			DropIn, "n 1.0.0: a nsqueue",
			[]string{"created n/zz-nsqueue.conf"},
		},
		"no drop-ins allowed": {
			map[string]string{
				"a.conflist": strings.Replace(stock, "{", "{\"loadOnlyInlinedPlugins\": true,", 1),
			},
			DropIn, flannel + ours,
			[]string{"added a.conflist"},
		},
		"symbolic link": {
			map[string]string{"10-flannel.conflist": "-> ../elsewhere/f", "../elsewhere/f": stock},
			Append, flannel + ours,
			[]string{"added ../elsewhere/f"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, c.files)
			before := snapshot(t, dir)
			i := installer(dir, c.mode)
			p, err := i.Install()
			if err != nil {
				t.Fatal(err)
			}
			got := did(dir, p)
			for n := range got {
				got[n] = strings.Replace(got[n], filepath.Dir(dir), "..", 1)
			}
			if diff := cmp.Diff(c.changes, got); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
			if got := chain(t, dir); got != c.chain {
				t.Errorf("chain %q, want %q", got, c.chain)
			}
			after := snapshot(t, dir)
			if p, err := i.Install(); err != nil || len(p.Changes) > 0 {
				t.Errorf("a second time: %v, %v", did(dir, p), err)
			}
			if diff := cmp.Diff(after, snapshot(t, dir)); diff != "" {
				t.Errorf("a second time (-before +after):\n%s", diff)
			}
			if _, err := i.Uninstall(); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
				t.Errorf("uninstalled (-before +after):\n%s", diff)
			}
		})
	}
}

func TestInstallRefuses(t *testing.T) {
	version := func(v string) string { return strings.Replace(stock, "0.3.1", v, 1) }
	for name, c := range map[string]struct {
		files map[string]string
		mode  Mode
		want  error
	}{
		"nothing there": {map[string]string{"README": "x", "dir.conf/x": "x"}, Append, ErrNoConfig},
		"invalid before valid": {
			map[string]string{"05-x.conflist": "{", "10-flannel.conflist": stock}, Append, ErrInvalid,
		},
		"list in a .conf file": {map[string]string{"10-x.conf": stock}, Append, ErrInvalid},
		"conf without a name":  {map[string]string{"10-x.conf": `{"type":"a","cniVersion":"1.0.0"}`}, Append, ErrInvalid},
		"old":                  {map[string]string{"a.conflist": version("0.2.0")}, Append, ErrVersion},
		"older":                {map[string]string{"a.conflist": version("")}, DropIn, ErrVersion},
		"old conf":             {map[string]string{"a.conf": `{"type":"a","name":"n"}`}, Append, ErrVersion},
		"too new":              {map[string]string{"a.conflist": version("2.0.0")}, Append, ErrVersion},
		"no version":           {map[string]string{"a.conflist": version("x")}, Append, ErrInvalid},
		"name that is a path":  {map[string]string{"a.conflist": strings.Replace(stock, "cbr0", "../x", 1)}, DropIn, ErrInvalid},
		"broken link":          {map[string]string{"a.conflist": "-> nowhere"}, Append, fs.ErrNotExist},
		"only ours": {
			map[string]string{"a.conflist": `{"name":"n","cniVersion":"1.0.0","plugins":[` + compact + `]}`},
			Append, ErrNoPlugins,
		},
		"no plugins": {map[string]string{"a.conflist": `{"name":"n","cniVersion":"1.0.0"}`}, DropIn, ErrNoPlugins},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, c.files)
			before := snapshot(t, dir)
			if _, err := installer(dir, c.mode).Install(); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
				t.Errorf("(-before +after):\n%s", diff)
			}
		})
	}
	dir := tree(t, map[string]string{"a.conflist": stock, "cbr0/zzz.conf": `{"type":"a"}`})
	if _, err := installer(dir, DropIn).Install(); err == nil || !strings.Contains(err.Error(), "zzz.conf") {
		t.Errorf("%v, want one that names the file that would come last", err)
	}
}

// The entry is in one place, also after the mode was changed.
func TestChangeMode(t *testing.T) {
	dir := tree(t, map[string]string{"10-flannel.conflist": stock})
	for _, c := range []struct {
		mode    Mode
		changes []string
	}{
		{Append, []string{"added 10-flannel.conflist"}},
		{DropIn, []string{"removed 10-flannel.conflist", "created cbr0/zz-nsqueue.conf"}},
		{Append, []string{"deleted cbr0/zz-nsqueue.conf", "added 10-flannel.conflist"}},
	} {
		p, err := installer(dir, c.mode).Install()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.changes, did(dir, p)); diff != "" {
			t.Errorf("changes (-want +got):\n%s", diff)
		}
		if got := chain(t, dir); got != "cbr0 0.3.1: flannel portmap nsqueue" {
			t.Error(got)
		}
	}
}

func TestChangeEntry(t *testing.T) {
	for _, mode := range []Mode{Append, DropIn} {
		dir := tree(t, map[string]string{"10-flannel.conflist": stock})
		i := installer(dir, mode)
		before := snapshot(t, dir)
		if _, err := i.Install(); err != nil {
			t.Fatal(err)
		}
		i.Entry.FailurePolicy = "Fail"
		p, err := i.Install()
		if err != nil || len(p.Changes) != 1 || p.Changes[0].Action != Updated {
			t.Errorf("%s: %v, %v", mode, p, err)
		}
		if _, err := i.Uninstall(); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
			t.Errorf("%s, uninstalled (-before +after):\n%s", mode, diff)
		}
	}
}

// A conflist that was made of a .conf file follows it.
func TestConversionFollows(t *testing.T) {
	dir := tree(t, map[string]string{"10-x.conf": single, "20-other.conflist": other})
	i := installer(dir, Append)
	install := func(chained string, changes ...string) {
		t.Helper()
		p, err := i.Install()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(changes, did(dir, p)); diff != "" {
			t.Errorf("changes (-want +got):\n%s", diff)
		}
		if got := chain(t, dir); got != chained {
			t.Errorf("chain %q, want %q", got, chained)
		}
	}
	install("mynet 0.3.1: bridge nsqueue", "created 10-x-with-nsqueue.conflist")
	put(t, filepath.Join(dir, "10-x.conf"), strings.Replace(single, "bridge", "ptp", 1))
	install("mynet 0.3.1: ptp nsqueue", "updated 10-x-with-nsqueue.conflist")
	if err := os.Remove(filepath.Join(dir, "10-x.conf")); err != nil {
		t.Fatal(err)
	}
	install("other 1.0.0: ptp nsqueue", "deleted 10-x-with-nsqueue.conflist", "added 20-other.conflist")
	// One that a person has edited keeps the edit.
	editEvents := strings.Replace(stock, "cbr0", "mine", 1)
	put(t, filepath.Join(dir, "10-x-with-nsqueue.conflist"), editEvents)
	install("mine 0.3.1: flannel portmap nsqueue", "added 10-x-with-nsqueue.conflist")
	if _, err := i.Uninstall(); err != nil {
		t.Fatal(err)
	}
	if got := chain(t, dir); got != "mine 0.3.1: flannel portmap" {
		t.Error(got)
	}
}

// Entries in configurations that are not active would be without a plugin when
// these become so.
func TestUninstallEverywhere(t *testing.T) {
	with := strings.Replace(other, `{"type":"ptp"}`, `{"type":"ptp"},`+compact, 1)
	dir := tree(t, map[string]string{
		"10-flannel.conflist": stock, "20-a.conflist": with, "30-broken.conflist": "{",
		"gone/zz-nsqueue.conf": compact, "kept/zz-nsqueue.conf": compact, "kept/a.conf": `{"type":"a"}`,
	})
	if _, err := installer(dir, Append).Uninstall(); err != nil {
		t.Fatal(err)
	}
	want := tree(t, map[string]string{
		"10-flannel.conflist": stock, "20-a.conflist": other, "30-broken.conflist": "{",
		"kept/a.conf": `{"type":"a"}`,
	})
	if diff := cmp.Diff(snapshot(t, want), snapshot(t, dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	put(t, filepath.Join(dir, "30-broken.conflist"), `{"plugins": [{"type": "nsqueue"`)
	if _, err := installer(dir, Append).Uninstall(); !errors.Is(err, ErrInvalid) ||
		!strings.Contains(err.Error(), "30-broken.conflist") {
		t.Errorf("%v, want one that names the broken file", err)
	}
}
