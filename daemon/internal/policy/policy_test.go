// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules"
)

const header = "apiVersion: nsqueue.io/v1alpha1\nkind: RuleSet\nmetadata: {name: %s}\nspec:\n"

// ruleSet is a file that has a set with one rule.
func ruleSet(name, action string) string {
	return fmt.Sprintf(header+`  pods: {namespaces: [agents]}
  default: accept
  rules: [{name: ssh, when: server.port == 22, action: %s}]
`, name, action)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// open returns a policy of a directory.
func open(ctx context.Context, t *testing.T, dir string) *Policy {
	t.Helper()
	p, err := New(ctx, Config{
		Directories: []string{dir}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return p
}

// one returns a directory with one file of rules.
func one(t *testing.T) (dir, file string) {
	t.Helper()
	dir = t.TempDir()
	file = filepath.Join(dir, "a.yaml")
	write(t, file, ruleSet("first", "reject"))
	return dir, file
}

// wantSet checks which set is in force.
func wantSet(t *testing.T, p *Policy, name string) {
	t.Helper()
	if sets := p.Rules().Sets; len(sets) != 1 || sets[0].Name != name {
		t.Errorf("sets %+v, want %s", sets, name)
	}
}

func TestReload(t *testing.T) {
	dir, file := one(t)
	p := open(t.Context(), t, dir)
	wantSet(t, p, "first")
	write(t, file, ruleSet("second", "drop"))
	if err := p.Reload(); err != nil {
		t.Fatal(err)
	}
	wantSet(t, p, "second")
	if p.changed() {
		t.Error("what was read counts as changed")
	}
}

// A file with an error changes nothing, and says where it is.
func TestReloadRefused(t *testing.T) {
	dir, file := one(t)
	p := open(t.Context(), t, dir)
	write(t, file, strings.Replace(ruleSet("second", "drop"), "server.port", "server.prot", 1))
	if err := p.Reload(); err != nil {
		t.Fatal(err)
	}
	wantSet(t, p, "first")
	errs := p.Rules().Errors
	if len(errs) != 1 || errs[0].File != file || errs[0].Line != 7 || errs[0].Column < 2 {
		t.Errorf("errors %+v", errs)
	}
	if s := p.State(); !strings.Contains(s.Problem, file+":7:") || s.Loaded == nil {
		t.Errorf("state %+v", s)
	}
	if n := p.Numbers(); n.Accepted != 1 || n.Failed != 1 || n.Succeeded {
		t.Errorf("numbers %+v", n)
	}
}

// Without rules that could be read, the failure policies decide.
func TestBrokenAtStart(t *testing.T) {
	dir, file := one(t)
	write(t, file, "kind: [")
	p := open(t.Context(), t, dir)
	a := &inspect.Attachment{ContainerID: "c", Ifname: "eth0", PodNamespace: "agents"}
	p.inspector.Attached(a)
	packet := &inspect.Packet{Direction: inspect.Out, Attachment: a}
	if v := p.inspector.Inspect(packet); v.Action != inspect.NoVerdict {
		t.Errorf("verdict %v", v)
	}
	if s := p.State(); s.Loaded != nil || s.Problem == "" {
		t.Errorf("state %+v", s)
	}
	write(t, file, ruleSet("mended", "drop"))
	if err := p.Reload(); err != nil {
		t.Fatal(err)
	}
	wantSet(t, p, "mended")
}

func TestNoDirectory(t *testing.T) {
	_, file := one(t)
	for _, path := range []string{filepath.Join(t.TempDir(), "none"), file} {
		if _, err := New(t.Context(), Config{Directories: []string{path}}); err == nil ||
			!strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// An edit that comes while rules are being put in force is read next.
func TestEditDuringReload(t *testing.T) {
	dir, file := one(t)
	p := open(t.Context(), t, dir)
	changes := p.inspector.AttachmentChanges()
	write(t, file, ruleSet("second", "drop"))
	done := make(chan error)
	go func() { done <- p.Reload() }()
	change := <-changes
	write(t, file, ruleSet("third", "reject"))
	change.Apply()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	wantSet(t, p, "second")
	if !p.changed() {
		t.Error("the edit does not count as changed")
	}
}

// A reload that ends with the daemon is not taken for one that was done.
func TestEndDuringReload(t *testing.T) {
	dir, file := one(t)
	life, end := context.WithCancel(t.Context())
	p := open(life, t, dir)
	_ = p.inspector.AttachmentChanges()
	write(t, file, ruleSet("second", "drop"))
	end()
	if err := p.Reload(); err == nil {
		t.Error("no error")
	}
	wantSet(t, p, "first")
	if !p.changed() {
		t.Error("the file counts as read")
	}
}

// Files that were missing, or were named by a set, are followed, too.
func TestDomainsFile(t *testing.T) {
	dir, sets := t.TempDir(), t.TempDir()
	names := filepath.Join(sets, "ads.txt")
	write(t, filepath.Join(dir, "a.yaml"), fmt.Sprintf(header+`  sets: {ads: {domainsFile: %s}}
  rules: [{name: ads, when: sets.ads.contains(tls.sni), action: drop}]
`, "s", names))
	p := open(t.Context(), t, dir)
	if p.Problem() == "" || p.changed() {
		t.Errorf("problem %q, changed %v", p.Problem(), p.changed())
	}
	for _, text := range []string{"ads.example\n", "ads.example\nmore.example\n"} {
		write(t, names, text)
		if !p.changed() {
			t.Errorf("%q does not count as changed", text)
		}
		if err := p.Reload(); err != nil || p.Problem() != "" || p.changed() {
			t.Errorf("%v, problem %q, changed %v", err, p.Problem(), p.changed())
		}
	}
}

func TestOtherFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "rules[1")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	p := open(t.Context(), t, dir)
	// An editor's lock, and a file for people.
	if err := os.Symlink("me@host.1:2", filepath.Join(dir, ".#a.yaml")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "README"), "rules")
	if p.changed() || p.Reload() != nil || p.Problem() != "" {
		t.Errorf("changed %v, problem %q", p.changed(), p.Problem())
	}
	write(t, filepath.Join(dir, "b.yml"), ruleSet("s", "reject"))
	if !p.changed() {
		t.Error("a file of rules does not count as changed")
	}
}

// Run reads files that are edited.
func TestFollow(t *testing.T) {
	dir, file := one(t)
	p := open(t.Context(), t, dir)
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { p.Run(ctx); close(ended) }()
	write(t, file, ruleSet("second", "drop"))
	deadline := time.After(time.Minute)
	for p.Rules().Sets[0].Name != "second" {
		select {
		case <-deadline:
			t.Fatal("the edit is not in force")
		case <-time.After(time.Millisecond):
		}
	}
	end()
	<-ended
}

func TestShown(t *testing.T) {
	dir, _ := one(t)
	p := open(t.Context(), t, dir)
	var shown []string
	for _, r := range p.Rules().Sets[0].Rules {
		shown = append(shown, r.Name+" "+r.Action)
	}
	if got := strings.Join(shown, ", "); got != "ssh reject, midstream accept, default accept" {
		t.Error(got)
	}
}

// asked is a note of a pod that asks for a name.
func asked(namespace, pod, name string) (*rules.Pod, *rules.Note) {
	return &rules.Pod{Namespace: namespace, Name: pod}, &rules.Note{
		Kind: rules.Decided, Verdict: rules.Accepted,
		Flow: &rules.Flow{AppProtocol: "dns", DNSName: name, ServerPort: 53},
	}
}

// A pod that asks for random names makes only its own forgotten.
func TestNamesOfOnePod(t *testing.T) {
	s := newNames()
	s.note(asked("n", "quiet", "x.example"))
	for i := range 2 * mostOfPod {
		s.note(asked("n", "noisy", fmt.Sprintf("r%d.example", i)))
	}
	got := s.list(time.Hour)
	if len(got.Names) != mostOfPod+1 || got.Forgotten != mostOfPod {
		t.Errorf("%d names, %d forgotten", len(got.Names), got.Forgotten)
	}
	if last := got.Names[len(got.Names)-1]; last.Pod != "quiet" || last.Name != "x.example" {
		t.Errorf("last name %+v", last)
	}
}

// Names of long ago give way to those of now.
func TestNamesOfManyPods(t *testing.T) {
	s := newNames()
	for i := range 2 * mostNames {
		s.note(asked("n", fmt.Sprintf("p%d", i), "x.example"))
	}
	got := s.list(0)
	if len(got.Names) != mostNames || len(s.pods) != mostNames || got.Forgotten != mostNames {
		t.Errorf("%d names of %d pods, %d forgotten", len(got.Names), len(s.pods), got.Forgotten)
	}
	if got := s.list(time.Nanosecond); len(got.Names) > mostNames/2 {
		t.Errorf("%d names of this nanosecond", len(got.Names))
	}
}
