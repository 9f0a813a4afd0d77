// SPDX-License-Identifier: Apache-2.0

package conflist

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/internal/atomicfile"
)

var errPower = errors.New("power cut")

// cutAt returns a Before that fails from the nth step on, and what says whether
// there was such a step.
func cutAt(n int) (before func(atomicfile.Step) error, cut func() bool) {
	steps := 0
	return func(atomicfile.Step) error {
		if steps++; steps > n {
			return errPower
		}
		return nil
	}, func() bool { return steps > n }
}

// Wherever the power is cut, a runtime that starts then finds the chain as it
// was or as it will be, and the next attempt ends as if nothing had happened.
func TestPowerCutAtEachStep(t *testing.T) {
	const flannel = "cbr0 0.3.1: flannel portmap"
	for name, c := range map[string]struct {
		files  map[string]string
		mode   Mode
		chains []string
	}{
		"append":  {map[string]string{"a.conflist": stock}, Append, []string{flannel, flannel + " nsqueue"}},
		"drop-in": {map[string]string{"a.conflist": stock}, DropIn, []string{flannel, flannel + " nsqueue"}},
		"conf": {
			map[string]string{"a.conf": single},
			Append,
			[]string{"mynet 0.3.1: bridge", "mynet 0.3.1: bridge nsqueue"},
		},
		"link": {
			map[string]string{"a.conflist": "-> ../elsewhere/f", "../elsewhere/f": stock},
			Append,
			[]string{flannel, flannel + " nsqueue"},
		},
		"change of mode": {
			map[string]string{
				"a.conflist": strings.Replace(stock, "{", `{"x":1,`, 1), "cbr0/zz-nsqueue.conf": compact,
			}, Append, []string{flannel, flannel + " nsqueue"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			reference := tree(t, c.files)
			must(t, installer(reference, c.mode).Install)
			installed := snapshot(t, reference)
			must(t, installer(reference, c.mode).Uninstall)
			uninstalled := snapshot(t, reference)
			for n, more := 0, true; more; n++ {
				dir := tree(t, c.files)
				i := installer(dir, c.mode)
				more = cutInstall(t, i, n, (*Installer).Install, c.chains, installed)
				more = cutInstall(t, i, n, (*Installer).Uninstall, c.chains, uninstalled) || more
			}
		})
	}
}

func must(t *testing.T, f func() (*Plan, error)) {
	t.Helper()
	if _, err := f(); err != nil {
		t.Fatal(err)
	}
}

// cutInstall cuts the power at a step, and then does all of it.
func cutInstall(t *testing.T, i *Installer, n int, do func(*Installer) (*Plan, error),
	chains []string, want map[string]string,
) bool {
	t.Helper()
	before, cut := cutAt(n)
	i.Before = before
	if _, err := do(i); cut() != errors.Is(err, errPower) || (err != nil) != cut() {
		t.Fatalf("step %d: %v", n, err)
	}
	if got := chain(t, i.Dir); !slices.Contains(chains, got) {
		t.Errorf("step %d: chain %q", n, got)
	}
	i.Before = nil
	if _, err := do(i); err != nil {
		t.Fatalf("after step %d: %v", n, err)
	}
	if diff := cmp.Diff(want, snapshot(t, i.Dir)); diff != "" {
		t.Errorf("after step %d (-want +got):\n%s", n, diff)
	}
	return cut()
}

// An edit that comes between reading and writing is neither lost nor without
// our entry.
func TestEditBetween(t *testing.T) {
	for name, c := range map[string]struct {
		mode   Mode
		before map[string]string
		path   string
		text   string
		chain  string
	}{
		"conflist": {
			Append,
			map[string]string{"a.conflist": stock},
			"a.conflist",
			strings.Replace(stock, "portmap", "bandwidth", 1), "cbr0 0.3.1: flannel bandwidth nsqueue",
		},
		"conf": {
			Append,
			map[string]string{"a.conf": single},
			"a-with-nsqueue.conflist",
			other, "other 1.0.0: ptp nsqueue",
		},
		"drop-in": {
			DropIn,
			map[string]string{"a.conflist": stock},
			"cbr0/zz-nsqueue.conf",
			`{"type":"nsqueue"}`, "cbr0 0.3.1: flannel portmap nsqueue",
		},
		"link": {
			Append,
			map[string]string{"a.conflist": "-> b", "b": stock, "c": other},
			"a.conflist",
			"-> c", "other 1.0.0: ptp nsqueue",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, c.before)
			i := installer(dir, c.mode)
			edits := 0
			i.Before = func(s atomicfile.Step) error {
				if s == atomicfile.Compare && edits == 0 {
					edits++
					path := filepath.Join(dir, c.path)
					if strings.HasPrefix(c.text, "-> ") {
						if err := os.Remove(path); err != nil {
							return err
						}
					}
					put(t, path, c.text)
				}
				return nil
			}
			must(t, i.Install)
			if got := chain(t, dir); edits != 1 || got != c.chain {
				t.Errorf("%d edits, chain %q, want %q", edits, got, c.chain)
			}
		})
	}
}

// A file that goes while it is looked at is no error, and a hand that never
// rests is one.
func TestEditAlways(t *testing.T) {
	dir := tree(t, map[string]string{"a.conflist": stock, "b.conflist": other})
	i := installer(dir, Append)
	i.Before = func(s atomicfile.Step) error {
		if s == atomicfile.Compare {
			_ = os.Remove(filepath.Join(dir, "a.conflist"))
		}
		return nil
	}
	must(t, i.Install)
	if got := chain(t, dir); got != "other 1.0.0: ptp nsqueue" {
		t.Errorf("chain %q", got)
	}
	edits := 0
	i.Before = func(s atomicfile.Step) error {
		if s == atomicfile.Compare {
			edits++
			put(t, filepath.Join(dir, "a.conflist"), strings.Repeat(" ", edits)+stock)
		}
		return nil
	}
	put(t, filepath.Join(dir, "a.conflist"), stock)
	if _, err := i.Install(); !errors.Is(err, ErrChanged) || edits != attempts {
		t.Errorf("%v after %d edits", err, edits)
	}
	if got := chain(t, dir); got != "cbr0 0.3.1: flannel portmap" {
		t.Errorf("chain %q", got)
	}
}

// Two installers at once make the entry once.
func TestInstallersTakeTurns(t *testing.T) {
	dir := tree(t, map[string]string{"a.conflist": stock})
	errs := make(chan error)
	const n = 8
	for range n {
		go func() {
			_, err := installer(dir, Append).Install()
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if got := chain(t, dir); got != "cbr0 0.3.1: flannel portmap nsqueue" {
		t.Error(got)
	}
	if got := snapshot(t, dir); len(got) != 3 {
		t.Errorf("left: %v", slices.Collect(maps.Keys(got)))
	}
}
