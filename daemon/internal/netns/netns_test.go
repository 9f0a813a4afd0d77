// SPDX-License-Identifier: Apache-2.0

//go:build netns

package netns_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/test/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func open(t *testing.T, path string) *netns.NetNS {
	t.Helper()
	ns, err := netns.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ns.Close(); err != nil {
			t.Error(err)
		}
	})
	return ns
}

func TestIdentity(t *testing.T) {
	pod := nstest.New(t)
	byPath := open(t, pod.Path())
	byFile, err := netns.FromFile(pod.File(t))
	if err != nil {
		t.Fatal(err)
	}
	defer byFile.Close()
	clone, err := byPath.Clone()
	if err != nil {
		t.Fatal(err)
	}
	defer clone.Close()
	id := byPath.ID()
	if id.Cookie == 0 || id.Ino == 0 {
		t.Errorf("identity %+v", id)
	}
	if byFile.ID() != id || clone.ID() != id {
		t.Errorf("one netns has identities %+v, %+v and %+v", id, byFile.ID(), clone.ID())
	}
	if other := open(t, nstest.New(t).Path()); other.ID().Cookie == id.Cookie {
		t.Error("two netns have one cookie")
	}
}

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{
		file:                    netns.ErrNotNetns,
		"/proc/self/ns/mnt":     netns.ErrNotNetns,
		"/dev/null":             netns.ErrNotNetns,
		"/run/netns/not-there":  fs.ErrNotExist,
		filepath.Dir(file):      netns.ErrNotNetns,
		"/proc/self/fd/1000000": fs.ErrNotExist,
	} {
		ns, err := netns.Open(path)
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
		if err == nil {
			_ = ns.Close()
		}
	}
}

func TestCurrent(t *testing.T) {
	own, pod := open(t, "/proc/self/ns/net"), open(t, nstest.New(t).Path())
	for _, tt := range []struct {
		ns   *netns.NetNS
		want bool
	}{{own, true}, {pod, false}} {
		if got, err := tt.ns.IsCurrent(); got != tt.want || err != nil {
			t.Errorf("%+v is current: %t, %v, want %t", tt.ns.ID(), got, err, tt.want)
		}
		// The test runs in a throw-away node, never in the initial netns.
		if got, err := tt.ns.IsInitial(); got || err != nil {
			t.Errorf("%+v is initial: %t, %v", tt.ns.ID(), got, err)
		}
	}
}

func TestSocketBelongsToNetns(t *testing.T) {
	pod := open(t, nstest.New(t).Path())
	s, err := pod.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(s)
	cookie, err := unix.GetsockoptUint64(s, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil || cookie != pod.ID().Cookie {
		t.Errorf("socket of netns %d, %v, want %d", cookie, err, pod.ID().Cookie)
	}
}

// However many threads visit however many namespaces, /proc/self/ns/net, which
// is the main thread's, never shows another one.
func TestProcessStaysHome(t *testing.T) {
	home := open(t, "/proc/self/ns/net")
	pods := []*netns.NetNS{open(t, nstest.New(t).Path()), open(t, nstest.New(t).Path())}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 200 {
				err := pods[i%2].Do(func() error { return nil })
				if err != nil {
					t.Error(err)
				}
				if current, err := home.IsCurrent(); !current || err != nil {
					t.Errorf("the process is elsewhere: %v", err)
				}
			}
		})
	}
	wg.Wait()
}

func TestDoReturnsError(t *testing.T) {
	want := errors.New("inside")
	if err := open(t, nstest.New(t).Path()).Do(func() error { return want }); !errors.Is(err, want) {
		t.Errorf("%v, want %v", err, want)
	}
}

func TestNewIsGoneWhenClosed(t *testing.T) {
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	if current, err := ns.IsCurrent(); current || err != nil {
		t.Errorf("a new netns is the current one: %v", err)
	}
	if err := ns.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestReceivesElsewhere(t *testing.T) {
	pod, _ := nstest.Pair(t)
	ns := open(t, pod.Path())
	for _, name := range []string{"eth0", "lo", "gone"} {
		if elsewhere, err := ns.ReceivesElsewhere(name); elsewhere || err != nil {
			t.Errorf("%s: %t, %v, want false", name, elsewhere, err)
		}
	}
	// The kernel takes no name that is this long.
	if _, err := ns.ReceivesElsewhere("a-name-of-sixteen"); err == nil {
		t.Error("no error for a name that the kernel refuses")
	}
}
