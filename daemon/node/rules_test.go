// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/policy"
	"github.com/nsqueue/nsqueue/test/nstest"
)

func TestRulesConfig(t *testing.T) {
	c, err := parseConfig([]byte(header + `rules:
  directory: /etc/nsqueue/rules.d
  resolvers: [10.96.0.10, "::ffff:10.0.0.1", "fd00::1"]
  events: {file: /var/log/eve.json, stderr: true}
`))
	nstest.Must(t, err)
	if c.Rules.Memory != defaultRulesMemory || c.Rules.PerRuleMetrics || !c.Rules.Events.Stderr {
		t.Errorf("%+v", c.Rules)
	}
	resolvers, err := c.Rules.resolvers()
	want := []netip.Addr{
		netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("10.0.0.1"),
		netip.MustParseAddr("fd00::1"),
	}
	if err != nil || !slices.Equal(resolvers, want) {
		t.Errorf("%v, %v", resolvers, err)
	}
	if c := DefaultConfig().Rules; c.On() || c.Resolvers != nil ||
		c.Events != (RulesEventsConfig{}) {
		t.Errorf("default %+v", c)
	}
}

// makePolicy has the rules of a directory made for a program with the inspector.
func makePolicy(dir string, inspector inspect.Inspector) (*policy.Policy, error) {
	c := DefaultConfig()
	c.Rules.Directory = dir
	return newPolicy(context.Background(), &c, inspector, nil, nil,
		slog.New(slog.DiscardHandler))
}

func TestNewPolicy(t *testing.T) {
	dir := t.TempDir()
	if p, err := makePolicy("", inspect.AcceptAll{}); p != nil || err != nil {
		t.Errorf("no directory: %v, %v", p, err)
	}
	p, err := makePolicy(dir, inspect.AcceptAll{})
	nstest.Must(t, err)
	if s := p.State(); s.Loaded == nil || s.Sets != 0 || s.Problem != "" {
		t.Errorf("an empty directory is %+v", s)
	}
	nstest.Must(t, endPolicy(p))
	own := inspect.Func(func(*inspect.Packet) inspect.Verdict { return inspect.Verdict{} })
	if _, err := makePolicy(dir, own); err == nil || !strings.Contains(err.Error(), dir) ||
		!strings.Contains(err.Error(), "inspect.Func") {
		t.Errorf("another inspector: %v", err)
	}
	missing := filepath.Join(dir, "none")
	if _, err := makePolicy(missing, inspect.AcceptAll{}); err == nil ||
		!strings.Contains(err.Error(), missing) {
		t.Errorf("a missing directory: %v", err)
	}
}

// A program with an inspector of its own has SIGHUP for itself; with rules, none that comes
// while the daemon starts is lost.
func TestCatchHangups(t *testing.T) {
	c := DefaultConfig()
	if hangups, release := catchHangups(&c); hangups != nil {
		t.Error("SIGHUP is taken from a program that has no rules")
	} else {
		release()
	}
	c.Rules.Directory = t.TempDir()
	hangups, release := catchHangups(&c)
	defer release()
	nstest.Must(t, unix.Kill(os.Getpid(), unix.SIGHUP))
	if got := <-hangups; got != unix.SIGHUP {
		t.Error(got)
	}
}

// Calls about rules say what to do where a daemon has none.
func TestNoRules(t *testing.T) {
	b := &backend{}
	_, err1 := b.Rules(t.Context())
	_, err2 := b.ReloadRules(t.Context())
	_, err3 := b.RulesOf(t.Context(), api.Key{ContainerID: "a", Ifname: "eth0"})
	_, err4 := b.Names(t.Context(), 0)
	for i, err := range []error{err1, err2, err3, err4} {
		if err == nil || !strings.Contains(err.Error(), "rules.directory") {
			t.Errorf("call %d: %v", i, err)
		}
	}
}

func TestRulesDirectories(t *testing.T) {
	for name, c := range map[string]struct {
		text, want string // want is an error's part where it begins with !
	}{
		"one":          {"directory: /a", "/a"},
		"several":      {"directory: /a, directories: [/b, /c]", "/a /b /c"},
		"a list alone": {"directories: [/b]", "/b"},
		"none":         {"directories: []", ""},
		"relative":     {"directories: [/b, c]", "!rules.directories \"c\""},
		"twice":        {"directory: /a, directories: [/a/]", "!/a/: named twice"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseConfig([]byte(header + "rules: {" + c.text + "}\n"))
			if text, wrong := strings.CutPrefix(c.want, "!"); wrong {
				if err == nil || !strings.Contains(err.Error(), text) {
					t.Errorf("%v, want %q", err, text)
				}
				return
			}
			nstest.Must(t, err)
			if all := strings.Join(got.Rules.all(), " "); all != c.want ||
				got.Rules.On() != (c.want != "") {
				t.Errorf("%q, want %q", all, c.want)
			}
		})
	}
}
