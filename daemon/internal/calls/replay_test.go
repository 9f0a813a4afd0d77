// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
	"github.com/nsqueue/nsqueue/internal/spool"
	"github.com/nsqueue/nsqueue/test/nstest"
)

func TestSpooledDel(t *testing.T) {
	r := newRig(t)
	key, netns := testKey(), apitest.OtherNetns(t)
	nstest.Must(t, r.add(key, netns))
	r.spoolDel(key)
	nstest.Must(t, r.Replay(t.Context()))
	r.want("DEL after ADD", key, false, false)

	r.spoolDel(key) // a runtime that repeats DEL
	nstest.Must(t, r.Replay(t.Context()))
	r.want("DEL of nothing", key, false, false)
}

// A daemon may die between an effect and the removal of its cause.
func TestSpooledDelAgain(t *testing.T) {
	r := newRig(t)
	key, netns := testKey(), apitest.OtherNetns(t)
	nstest.Must(t, r.add(key, netns))
	old := r.spoolDel(key)
	nstest.Must(t, r.Replay(t.Context()))
	nstest.Must(t, r.add(key, netns))
	nstest.Must(t, r.dir.Write(old))
	nstest.Must(t, r.Replay(t.Context()))
	r.want("old DEL after a new ADD", key, true, false)
}

func TestSpooledAdd(t *testing.T) {
	r := newRig(t)
	key, netns := testKey(), apitest.OtherNetns(t)
	e := r.spoolAdd(key, netns)
	nstest.Must(t, r.Replay(t.Context()))
	r.want("ADD", key, true, false)
	a, _ := r.get(key)
	info, err := os.Stat(netns)
	nstest.Must(t, err)
	if a.called != e.Called || !os.SameFile(a.netns, info) {
		t.Errorf("attached %+v for %+v", a, e)
	}
	nstest.Must(t, r.dir.Write(e)) // as TestSpooledDelAgain
	nstest.Must(t, r.Replay(t.Context()))
	r.want("the same ADD again", key, true, false)
}

func TestSpooledAddOfGonePod(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	nstest.Must(t, os.WriteFile(file, nil, 0o600))
	for name, path := range map[string]string{
		"gone": filepath.Join(dir, "gone"), "below a file": filepath.Join(file, "x"),
		"process gone": "/proc/4194304/ns/net",
		"reused":       apitest.OtherNetns(t), "another kind": file,
	} {
		e := r.spoolAdd(testKey(), apitest.OwnNetns)
		e.Attach.NetnsPath = path
		nstest.Must(t, r.dir.Write(e))
		if err := r.Replay(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		r.want(name, testKey(), false, false)
	}
}

// A container that lives again under its old name: the DEL between its lives
// has been replaced by the ADD.
func TestSpooledAddAfterLostDel(t *testing.T) {
	r := newRig(t)
	key, netns := testKey(), apitest.OtherNetns(t)
	nstest.Must(t, r.add(key, apitest.OtherNetns(t)))
	r.spoolDel(key)
	r.spoolAdd(key, netns)
	nstest.Must(t, r.Replay(t.Context()))
	r.want("ADD", key, true, false)
	info, err := os.Stat(netns)
	nstest.Must(t, err)
	if a, _ := r.get(key); !os.SameFile(a.netns, info) {
		t.Errorf("attached is still the old netns: %+v", a)
	}
}

// What fails stays and is tried again, unless no time heals it.
func TestFailures(t *testing.T) {
	netns := apitest.OtherNetns(t)
	for _, test := range []struct {
		err   error
		stays bool
	}{
		{errors.New("disk full"), true},
		{&os.PathError{Op: "open", Path: "x", Err: syscall.EMFILE}, true},
		{api.Errorf(api.CodeTryAgainLater, "busy"), true},
		{api.Errorf(api.CodeInvalidNetns, "the node's"), false},
		{api.Errorf(api.CodeConflict, "another one"), false},
	} {
		r := newRig(t)
		failing := true
		r.hold = func(verb spool.Verb, _ api.Key) error {
			if failing && verb == spool.Add {
				return test.err
			}
			return nil
		}
		r.spoolAdd(testKey(), netns)
		if err := r.Replay(t.Context()); errors.Is(err, test.err) != test.stays {
			t.Errorf("%v: replay returns %v", test.err, err)
		}
		r.want(test.err.Error(), testKey(), false, test.stays)
		failing = false
		nstest.Must(t, r.Replay(t.Context()))
		r.want("later", testKey(), test.stays, false)
	}
}

func TestFailingDelStays(t *testing.T) {
	r := newRig(t)
	no := errors.New("no")
	r.hold = func(spool.Verb, api.Key) error { return no }
	r.spoolDel(testKey())
	other := api.Key{ContainerID: "other", Ifname: "eth0"}
	r.spoolDel(other)
	if err := r.Replay(t.Context()); !errors.Is(err, no) {
		t.Errorf("replay returns %v", err)
	}
	r.want("failed", testKey(), false, true)
	r.hold = nil
	nstest.Must(t, r.Replay(t.Context()))
	r.want("later", testKey(), false, false)
	r.want("later", other, false, false)
}

func TestEarlierBoot(t *testing.T) {
	r := newRig(t)
	key, netns := testKey(), apitest.OtherNetns(t)
	e := r.spoolAdd(key, netns)
	e.BootID = "0-0-0"
	nstest.Must(t, r.dir.Write(e))
	nstest.Must(t, r.Replay(t.Context()))
	r.want("ADD", key, false, false)

	nstest.Must(t, r.add(key, netns))
	e = r.spoolDel(key)
	e.BootID, e.Called = "0-0-0", e.Called+time.Hour
	nstest.Must(t, r.dir.Write(e))
	nstest.Must(t, r.Replay(t.Context()))
	r.want("DEL", key, true, false)

	nstest.Must(t, r.dir.Write(e))
	nstest.Must(t, r.add(key, netns))
	r.want("ADD over the socket", key, true, false)
}

// What is not ours is left, and said once. It keeps nothing else from being
// carried out.
func TestForeignFiles(t *testing.T) {
	r := newRig(t)
	for name, text := range map[string]string{
		"README": "hello", "a@eth0.json": "\x00", "b@eth0.json": `{"version":2,"verb":"MOVE"}`,
	} {
		nstest.Must(t, os.WriteFile(filepath.Join(r.path, name), []byte(text), 0o600))
	}
	nstest.Must(t, syscall.Mkfifo(filepath.Join(r.path, "c@eth0.json"), 0o600))
	for range 3 {
		r.spoolAdd(testKey(), apitest.OtherNetns(t))
		nstest.Must(t, r.Replay(t.Context()))
		r.want("ours", testKey(), true, false)
		nstest.Must(t, r.Detach(t.Context(), api.DetachRequest{Key: testKey()}))
	}
	entries, err := os.ReadDir(r.path)
	nstest.Must(t, err)
	if len(entries) != 4 {
		t.Errorf("%d files left, want 4", len(entries))
	}
	if n := r.log.count("cannot use a file of the spool"); n != 4 {
		t.Errorf("%d lines about them, want 4", n)
	}
	if n := r.log.count("newer plugin"); n != 1 {
		t.Errorf("%d lines about the newer version, want 1", n)
	}
	// A call of the key takes the place of garbage, but not of what is newer.
	b := api.Key{ContainerID: "b", Ifname: "eth0"}
	nstest.Must(t, r.add(b, apitest.OtherNetns(t)))
	if _, err := os.Stat(filepath.Join(r.path, "b@eth0.json")); err != nil {
		t.Error(err)
	}
}

func TestStorm(t *testing.T) {
	const files = 500
	r := newRig(t)
	netns := apitest.OtherNetns(t)
	r.hold = func(spool.Verb, api.Key) error {
		<-time.After(time.Millisecond) // what waits for the kernel
		return nil
	}
	for i := range files {
		key := api.Key{ContainerID: fmt.Sprint("pod", i), Ifname: "eth0"}
		if i%2 == 0 {
			r.spoolAdd(key, netns)
			continue
		}
		r.spoolDel(key)
	}
	start := time.Now()
	nstest.Must(t, r.Replay(t.Context()))
	t.Logf("%d entries took %v, %d at a time", files, time.Since(start), r.busiest.Load())
	if n := r.busiest.Load(); n > 8 {
		t.Errorf("%d at a time", n)
	}
	if n := len(r.all()); n != files/2 {
		t.Errorf("%d attachments, want %d", n, files/2)
	}
	if left, err := os.ReadDir(r.path); len(left) > 0 || err != nil {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestHostileDirectory(t *testing.T) {
	r := newRig(t)
	nstest.Must(t, os.Chmod(r.path, 0o777))
	r.spoolDel(testKey())
	if err := r.Replay(t.Context()); err == nil {
		t.Error("replayed")
	}
	// Calls over the socket do not depend on it.
	nstest.Must(t, r.add(testKey(), apitest.OtherNetns(t)))
	nstest.Must(t, r.Detach(t.Context(), api.DetachRequest{Key: testKey()}))
	nstest.Must(t, os.Chmod(r.path, 0o700))
	nstest.Must(t, r.Replay(t.Context()))
}
