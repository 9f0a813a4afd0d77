// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/test/nstest"
)

// volume is the directory of a mounted ConfigMap.
type volume struct {
	dir      string
	versions int
}

// exchange puts files into the volume as the kubelet does, one step after the other. It
// calls between after each step that others can see.
func (v *volume) exchange(t *testing.T, files map[string]string, between func()) {
	t.Helper()
	v.versions++
	name := fmt.Sprintf("..2026_11_29_10_00_%02d.1234567890", v.versions)
	data := filepath.Join(v.dir, "..data")
	before, _ := os.Readlink(data)
	stamped := filepath.Join(v.dir, name)
	nstest.Must(t, os.Mkdir(stamped, 0o755))
	between()
	for file, text := range files {
		write(t, filepath.Join(stamped, file), text)
		between()
	}
	nstest.Must(t, os.Symlink(name, data+"_tmp"))
	between()
	nstest.Must(t, os.Rename(data+"_tmp", data))
	between()
	for file := range files {
		if path := filepath.Join(v.dir, file); !exists(path) {
			nstest.Must(t, os.Symlink(filepath.Join("..data", file), path))
			between()
		}
	}
	for _, link := range v.visible(t) {
		if _, ok := files[filepath.Base(link)]; !ok {
			nstest.Must(t, os.Remove(link))
			between()
		}
	}
	if before != "" {
		nstest.Must(t, os.RemoveAll(filepath.Join(v.dir, before)))
		between()
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// visible returns the links to files.
func (v *volume) visible(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(v.dir, "[^.]*"))
	nstest.Must(t, err)
	return all
}

// follow has a policy of directories follow them until the test ends.
func follow(t *testing.T, log *told, dirs ...string) *Policy {
	t.Helper()
	lasting := context.WithoutCancel(t.Context())
	ctx, end := context.WithCancel(lasting)
	p, err := New(ctx, Config{Directories: dirs, Log: slog.New(slog.DiscardHandler)})
	nstest.Must(t, err)
	p.ReportTo(log)
	ended := make(chan struct{})
	go func() { p.Run(ctx); close(ended) }()
	t.Cleanup(func() {
		end()
		<-ended
		nstest.Must(t, p.Close(lasting))
	})
	return p
}

// told has what operators are told.
type told struct {
	nobody

	mu    sync.Mutex
	lines []string
}

func (l *told) ReportRules(level slog.Level, message string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, level.String()+" "+message)
}

func (l *told) has(parts ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.lines, func(line string) bool {
		return !slices.ContainsFunc(parts, func(part string) bool {
			return !strings.Contains(line, part)
		})
	})
}

// setNames returns those of the sets in force, in their order.
func setNames(p *Policy) string {
	var list []string
	for _, set := range p.Rules().Sets {
		list = append(list, set.Name)
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// wantInForce waits until the sets are in force, and nothing is wrong.
func wantInForce(t *testing.T, p *Policy, want string) {
	t.Helper()
	if !nstest.Poll(time.Minute, func() bool { return setNames(p) == want && p.Problem() == "" }) {
		t.Fatalf("in force are %q, want %q; problem %q", setNames(p), want, p.Problem())
	}
}

// wantRefused waits until something is wrong with a file, and the sets of before are in
// force.
func wantRefused(t *testing.T, p *Policy, where, kept string) {
	t.Helper()
	if !nstest.Poll(time.Minute, func() bool { return strings.Contains(p.Problem(), where) }) {
		t.Fatalf("problem %q, want %q", p.Problem(), where)
	}
	if got := setNames(p); got != kept {
		t.Errorf("in force are %q, want %q", got, kept)
	}
}

// Several mounted ConfigMaps are followed through all that Kubernetes does to them.
func TestVolumes(t *testing.T) {
	one, two := &volume{dir: t.TempDir()}, &volume{dir: t.TempDir()}
	none := func() {}
	broken := strings.Replace(ruleSet("c", "drop"), "server.port", "server.prot", 1)
	one.exchange(t, map[string]string{"a.yaml": ruleSet("a", "drop"), "notes": "rules"}, none)
	two.exchange(t, nil, none)
	log := &told{}
	p := follow(t, log, one.dir, two.dir)
	wantInForce(t, p, "a")
	two.exchange(t, map[string]string{"a.yaml": ruleSet("b", "drop")}, none)
	wantInForce(t, p, "a b")
	one.exchange(t, map[string]string{"c.yaml": ruleSet("c", "drop")}, none)
	wantInForce(t, p, "b c") // one file came, another went
	one.exchange(t, map[string]string{"c.yaml": broken}, none)
	wantRefused(t, p, filepath.Join(one.dir, "c.yaml")+":7:", "b c")
	if n := p.Numbers(); n.Succeeded || n.Failed == 0 || !log.has("ERROR", "c.yaml:7:") {
		t.Errorf("told %q, numbers %+v", log.lines, n)
	}
	two.exchange(t, nil, none) // what is right elsewhere has to wait
	one.exchange(t, map[string]string{"c.yaml": ruleSet("b", "drop")}, none)
	wantInForce(t, p, "b")
	two.exchange(t, map[string]string{"a.yaml": ruleSet("b", "drop")}, none)
	wantRefused(t, p, "set \"b\" already", "b")
	two.exchange(t, nil, none)
	one.exchange(t, nil, none)
	wantInForce(t, p, "")
	if !nstest.Poll(time.Minute, func() bool { return log.has("WARN", "every packet is accepted") }) {
		t.Errorf("told %q", log.lines)
	}
}

// A directory that vanishes takes no rules with it, and is followed once it is back.
func TestDirectoryVanishes(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "mounts", "rules")
	nstest.Must(t, os.MkdirAll(parent, 0o755))
	v := &volume{dir: filepath.Join(parent, "one")}
	nstest.Must(t, os.Mkdir(v.dir, 0o755))
	v.exchange(t, map[string]string{"a.yaml": ruleSet("a", "drop")}, func() {})
	p := follow(t, &told{}, v.dir)
	wantInForce(t, p, "a")
	for _, gone := range []string{v.dir, filepath.Dir(parent)} {
		nstest.Must(t, os.RemoveAll(gone))
		wantRefused(t, p, v.dir, "a")
		nstest.Must(t, os.MkdirAll(v.dir, 0o755))
		v.exchange(t, map[string]string{"b.yaml": ruleSet("b", "drop")}, func() {})
		wantInForce(t, p, "b")
		v.exchange(t, map[string]string{"a.yaml": ruleSet("a", "drop")}, func() {})
		wantInForce(t, p, "a")
	}
}

// Whenever files are read while a volume is exchanged, they are of one version.
func TestVolumeIsReadWhole(t *testing.T) {
	v := &volume{dir: t.TempDir()}
	version := func(name string) map[string]string {
		return map[string]string{
			"a.yaml": ruleSet(name+"a", "drop"), "b.yaml": ruleSet(name+"b", "drop"),
		}
	}
	v.exchange(t, version("one"), func() {})
	p := open(t.Context(), t, v.dir)
	for _, name := range []string{"two", "three"} {
		v.exchange(t, version(name), func() {
			nstest.Must(t, p.Reload())
			got := setNames(p)
			if a, b, _ := strings.Cut(got, " "); strings.TrimSuffix(a, "a") != strings.TrimSuffix(b, "b") {
				t.Errorf("in force at once are %q", got)
			}
		})
		nstest.Must(t, p.Reload())
		wantInForce(t, p, name+"a "+name+"b")
	}
}

// exchanging reads files, and exchanges the volume when the first of them was read.
func TestExchangeWhileReading(t *testing.T) {
	v := &volume{dir: t.TempDir()}
	files := map[string]string{"a.yaml": ruleSet("a1", "drop"), "b.yaml": ruleSet("b1", "drop")}
	v.exchange(t, files, func() {})
	p := open(t.Context(), t, v.dir)
	next := map[string]string{"a.yaml": ruleSet("a2", "drop"), "b.yaml": ruleSet("b2", "drop")}
	done := false
	p.readFile = func(path string) ([]byte, error) {
		if !done && filepath.Base(path) == "b.yaml" {
			done = true
			v.exchange(t, maps.Clone(next), func() {})
		}
		return os.ReadFile(path)
	}
	nstest.Must(t, p.Reload())
	wantInForce(t, p, "a2 b2")
}
