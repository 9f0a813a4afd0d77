// SPDX-License-Identifier: Apache-2.0

package conflist

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/internal/atomicfile"
	"github.com/nsqueue/nsqueue/internal/dirwatch"
)

// patience is how long a test waits for what has to happen.
const patience = time.Minute // only for what hangs

// watching runs a watcher whose checks come from events alone, and returns what
// it does, one by one.
func watching(t *testing.T, k *Watcher) <-chan string {
	t.Helper()
	happened := make(chan string)
	ctx, cancel := context.WithCancel(t.Context())
	tell := func(what string) {
		select {
		case happened <- what:
		case <-ctx.Done():
		}
	}
	k.Interval = time.Hour
	k.Checked = func(context.Context) { tell("checked") }
	k.Repaired = func(_ context.Context, p *Plan) { tell(strings.Join(did(k.Installer.Dir, p), ", ")) }
	k.Failed = func(err error) { tell("failed: " + err.Error()) }
	k.BackedOff = func(_ *Plan, repairs int, d time.Duration) { tell("backed off") }
	ended := make(chan error, 1)
	go func() { ended <- k.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return happened
}

// await returns what happens next, but for checks that find nothing to repair.
func await(t *testing.T, happened <-chan string) string {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case what := <-happened:
			if what != "checked" {
				return what
			}
		case <-timeout:
			t.Fatal("nothing happened")
		}
	}
}

// Whatever another program does to the entry, an event leads to its repair.
func TestWatcherRepairs(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		mode  Mode
		undo  func(dir string) error
		want  string
	}{
		"rewritten in place": {
			map[string]string{"a.conflist": stock},
			Append,
			func(dir string) error { return os.WriteFile(dir+"/a.conflist", []byte(stock), 0o644) },
			"added a.conflist",
		},
		"replaced": {
			map[string]string{"a.conflist": stock},
			Append,
			func(dir string) error {
				return errors.Join(os.WriteFile(dir+"/new", []byte(stock), 0o644),
					os.Rename(dir+"/new", dir+"/a.conflist"))
			},
			"added a.conflist",
		},
		"another comes first": {
			map[string]string{"b.conflist": stock},
			Append,
			func(dir string) error { return os.WriteFile(dir+"/a.conflist", []byte(other), 0o644) },
			"added a.conflist",
		},
		"linked": {
			map[string]string{"b.conflist": stock, "c": other},
			Append,
			func(dir string) error { return os.Symlink("c", dir+"/a.conflist") },
			"added c",
		},
		"conf changed": {
			map[string]string{"a.conf": single},
			Append,
			func(dir string) error {
				return os.WriteFile(dir+"/a.conf", []byte(strings.Replace(single, "bridge", "ptp", 1)), 0o644)
			},
			"updated a-with-nsqueue.conflist",
		},
		"target swapped as Kubernetes does": {
			map[string]string{
				"a.conflist": "-> ..data/f", "..data": "-> ..1", "..1/f": stock, "..2/f": other,
			},
			Append,
			func(dir string) error {
				return errors.Join(os.Symlink("..2", dir+"/..tmp"), os.Rename(dir+"/..tmp", dir+"/..data"))
			},
			"added ..2/f",
		},
		"drop-in deleted": {
			map[string]string{"a.conflist": stock},
			DropIn,
			func(dir string) error { return os.Remove(dir + "/cbr0/zz-nsqueue.conf") },
			"created cbr0/zz-nsqueue.conf",
		},
		"target rewritten": {
			map[string]string{"a.conflist": "-> ../elsewhere/f", "../elsewhere/f": stock},
			Append,
			func(dir string) error { return os.WriteFile(dir+"/../elsewhere/f", []byte(stock), 0o644) },
			"added ../elsewhere/f",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, c.files)
			happened := watching(t, &Watcher{Installer: installer(dir, c.mode), Backoff: DefaultBackoff()})
			await(t, happened)
			quiet(t, happened)
			if err := c.undo(dir); err != nil {
				t.Fatal(err)
			}
			got := strings.Replace(await(t, happened), filepath.Dir(dir), "..", 1)
			if got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			if got := chain(t, dir); !strings.HasSuffix(got, " nsqueue") {
				t.Error(got)
			}
		})
	}
}

// quiet lets the watcher see the events of its own changes.
func quiet(t *testing.T, happened <-chan string) {
	t.Helper()
	select {
	case what := <-happened:
		if what != "checked" {
			t.Fatal(what)
		}
	case <-time.After(patience):
		t.Fatal("the watcher did not check again")
	}
}

// A network that rewrites its file at each of its starts.
func TestWatcherAgainstFlannel(t *testing.T) {
	dir := tree(t, map[string]string{"10-flannel.conflist": stock})
	happened := watching(t, &Watcher{Installer: installer(dir, Append), Backoff: DefaultBackoff()})
	for range 4 {
		if got := await(t, happened); got != "added 10-flannel.conflist" {
			t.Fatal(got)
		}
		put(t, filepath.Join(dir, "10-flannel.conflist"), stock)
	}
	if got := await(t, happened); got != "added 10-flannel.conflist" {
		t.Fatal(got)
	}
	if got := chain(t, dir); got != "cbr0 0.3.1: flannel portmap nsqueue" {
		t.Error(got)
	}
}

// A program that never stops is left alone for a while, and reported.
func TestWatcherBacksOff(t *testing.T) {
	dir := tree(t, map[string]string{"10-flannel.conflist": stock})
	backoff := Backoff{Most: 5, Window: time.Hour, Pause: time.Millisecond, Longest: time.Hour}
	happened := watching(t, &Watcher{Installer: installer(dir, Append), Backoff: backoff})
	var got []string
	for range 10 {
		what := await(t, happened)
		got = append(got, what)
		if what != "backed off" {
			put(t, filepath.Join(dir, "10-flannel.conflist"), stock)
		}
	}
	want := slices.Concat(slices.Repeat([]string{"added 10-flannel.conflist"}, 6), []string{
		"backed off", "added 10-flannel.conflist", "backed off", "added 10-flannel.conflist",
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBackoff(t *testing.T) {
	f := DefaultBackoff()
	now := time.Now()
	repair := func(after time.Duration, pause time.Duration, repairs int) {
		t.Helper()
		now = now.Add(after)
		if got := f.repaired(now); got != pause || f.repairs != repairs {
			t.Errorf("pause %v after %d repairs, want %v after %d", got, f.repairs, pause, repairs)
		}
	}
	for range 20 { // 5 a minute are fine
		repair(13*time.Second, 0, 0)
	}
	repair(time.Second, 10*time.Second, 6)
	repair(11*time.Second, 20*time.Second, 7)
	repair(21*time.Second, 40*time.Second, 8)
	for range 3 {
		f.repaired(now)
	}
	repair(5*time.Minute, 5*time.Minute, 12)
	repair(6*time.Minute, 5*time.Minute, 13)
	for range 5 { // after a minute without repairs it begins anew
		repair(6*time.Minute+time.Second, 0, 13)
	}
}

// What cannot be repaired is reported once; a file that is being written is not.
func TestWatcherFails(t *testing.T) {
	t.Parallel() // it waits a second
	dir := tree(t, map[string]string{"a.conflist": stock})
	path := filepath.Join(dir, "a.conflist")
	happened := watching(t, &Watcher{Installer: installer(dir, Append), Backoff: DefaultBackoff()})
	await(t, happened)
	put(t, path, stock[:50])
	put(t, path, stock)
	if got := await(t, happened); got != "added a.conflist" {
		t.Error(got)
	}
	put(t, path, stock[:50])
	if got := await(t, happened); !strings.HasPrefix(got, "failed: "+path+": invalid CNI configuration") {
		t.Error(got)
	}
	put(t, path, stock)
	if got := await(t, happened); got != "added a.conflist" {
		t.Error(got)
	}
}

func TestInstallWhenReady(t *testing.T) {
	t.Parallel()                                   // it waits a second
	dir := tree(t, map[string]string{"../x": "x"}) // and no directory yet
	i := installer(dir, Append)
	texts := []string{"", stock[:70], stock} // the second is still being written
	var waited []error
	p, err := i.InstallWhenReady(t.Context(), i.Install, func(err error) {
		if text := texts[len(waited)]; text != "" {
			put(t, filepath.Join(dir, "a.conflist"), text)
		}
		waited = append(waited, err)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(waited) != 3 || !errors.Is(waited[0], ErrNoConfig) || !errors.Is(waited[1], ErrNoConfig) ||
		!errors.Is(waited[2], ErrInvalid) {
		t.Errorf("waited for %v", waited)
	}
	if diff := cmp.Diff([]string{"added a.conflist"}, did(dir, p)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestInstallWhenReadyEnds(t *testing.T) {
	t.Parallel() // it waits a second
	i := installer(tree(t, map[string]string{"x": "x"}), Append)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := i.InstallWhenReady(ctx, i.Install, func(error) { cancel() })
	if !errors.Is(err, ErrNoConfig) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	i = installer(tree(t, map[string]string{"a.conflist": "{"}), Append)
	if _, err := i.InstallWhenReady(t.Context(), i.Install, func(error) {}); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}

// A program that reads a configuration after an installation gets the new one.
func TestReload(t *testing.T) {
	dir := tree(t, map[string]string{"a.conflist": "-> ../elsewhere/f", "../elsewhere/f": stock})
	i := installer(dir, Append)
	p, err := i.Install()
	if err != nil {
		t.Fatal(err)
	}
	// A runtime sees the directory change, and reads it.
	runtime, err := newWatch(t.Context(), editEvents)
	if err != nil {
		t.Fatal(err)
	}
	defer runtime.Close()
	if err := runtime.add(dir); err != nil {
		t.Fatal(err)
	}
	r, err := i.Reload(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	something := func(dirwatch.Event) bool { return true }
	if !runtime.Wait(t.Context(), patience, something) {
		t.Error("the runtime saw nothing")
	}
	if r.Wait(t.Context(), time.Millisecond) {
		t.Error("a configuration was read before the runtime read it")
	}
	chain(t, dir)
	if !r.Wait(t.Context(), patience) {
		t.Error("no program has read a configuration")
	}
}

func TestConcerns(t *testing.T) {
	w := &watch{target: "f"}
	for _, c := range []struct {
		event dirwatch.Event
		want  bool
	}{
		{dirwatch.Event{Mask: unix.IN_CREATE, Name: "a.conflist"}, true},
		{dirwatch.Event{Mask: unix.IN_MOVED_FROM, Name: "..data"}, true},
		{dirwatch.Event{Mask: unix.IN_CREATE | unix.IN_ISDIR, Name: "cbr0"}, true},
		{dirwatch.Event{Mask: unix.IN_DELETE_SELF}, true},
		{dirwatch.Event{Mask: unix.IN_Q_OVERFLOW}, true},
		{dirwatch.Event{Mask: unix.IN_IGNORED}, false},
		{dirwatch.Event{Mask: unix.IN_CREATE, Name: atomicfile.Prefix + "1"}, false},
		{dirwatch.Event{Mask: unix.IN_CLOSE_NOWRITE, Name: "a.conflist"}, true},
		{dirwatch.Event{Mask: unix.IN_CLOSE_NOWRITE, Name: "f"}, true},
		{dirwatch.Event{Mask: unix.IN_CLOSE_NOWRITE, Name: "README"}, false},
		{dirwatch.Event{Mask: unix.IN_CLOSE_NOWRITE}, false},
		{dirwatch.Event{Mask: unix.IN_CLOSE_NOWRITE | unix.IN_ISDIR, Name: "a.conflist"}, false},
	} {
		if got := w.concerns(c.event); got != c.want {
			t.Errorf("%#x %q: %v, want %v", c.event.Mask, c.event.Name, got, c.want)
		}
	}
}
