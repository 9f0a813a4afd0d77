// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/boottime"
	"github.com/nsqueue/nsqueue/internal/spool"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// openSpool opens the spool of the rig's daemon as the plugin does.
func (r *rig) openSpool(t *testing.T) *spool.Dir {
	t.Helper()
	dir, err := spool.Open(spool.Path(r.Socket()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	return dir
}

// spoolDel is a DEL that the plugin could not deliver.
func spoolDel(t *testing.T, dir *spool.Dir, key api.Key, called time.Duration) {
	t.Helper()
	e, err := spool.NewDel(key, called)
	if err == nil {
		err = dir.Write(e)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// spooled returns the names of what is spooled.
func (r *rig) spooled(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(spool.Path(r.Socket()))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// attached returns the keys of all attachments in order.
func (r *rig) attached(t *testing.T) []api.Key {
	t.Helper()
	keys := []api.Key{}
	for _, a := range r.list(t) {
		keys = append(keys, a.Key)
	}
	return keys
}

// eventuallyAttached waits until exactly these are attached and nothing is
// spooled.
func (r *rig) eventuallyAttached(t *testing.T, want ...api.Key) {
	t.Helper()
	slices.SortFunc(want, func(a, b api.Key) int { return cmp.Compare(a.String(), b.String()) })
	var have []api.Key
	var left []string
	if !nstest.Poll(patience, func() bool {
		have, left = r.attached(t), r.spooled(t)
		return slices.Equal(have, want) && len(left) == 0
	}) {
		t.Fatalf("attached %v, want %v; spooled %v, want nothing", have, want, left)
	}
}

// TestDelWithoutDaemon deletes a pod while the daemon is away. The chain goes
// on, and the next daemon makes good for it.
func TestDelWithoutDaemon(t *testing.T) {
	r := startRig(t, api.Ignore)
	network := r.open(t, flannelList, "", api.Ignore)
	a, b := newPod(t, network, "a"), newPod(t, network, "b")
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	freed, err := a.NetNS.Canary("canary")
	if err != nil {
		t.Fatal(err)
	}
	remove(t, a)
	if got := r.spooled(t); len(got) != 1 || !strings.HasPrefix(got[0], a.ID) {
		t.Errorf("spooled %v, want one DEL of %s", got, a.ID)
	}
	r.start(t)
	// What was spooled is done before the first call is answered.
	if got := r.attached(t); !slices.Equal(got, []api.Key{b.Key()}) {
		t.Errorf("attached %v, want %s alone", got, b.Key())
	}
	r.eventuallyAttached(t, b.Key())
	nstest.Eventually(t, patience, "the kernel frees the netns", freed)
	if got := tables(t, b); got == "" {
		t.Error("the other pod is not inspected any more")
	}
}

// TestDelSpooledLate covers DELs that are spooled when the daemon has drained
// already, or that it finds when their time is over.
func TestDelSpooledLate(t *testing.T) {
	r := startRig(t, api.Ignore)
	network := r.open(t, flannelList, "", api.Ignore)
	a := newPod(t, network, "a")
	dir := r.openSpool(t)
	spoolDel(t, dir, a.Key(), boottime.Now())
	r.eventuallyAttached(t)
	if got := tables(t, a); got != "" {
		t.Errorf("left in the netns: %s", got)
	}

	called := boottime.Now()
	c := r.newCall(a.NetNS.Path())
	c.containerID = a.ID
	if o := c.run(t, "ADD"); o.failed {
		t.Fatal(o.stdout, o.stderr)
	}
	spoolDel(t, dir, a.Key(), called)
	r.eventuallyAttached(t, a.Key())
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	spoolDel(t, dir, a.Key(), called)
	r.start(t)
	r.eventuallyAttached(t, a.Key())
}

// TestAddWithoutDaemon adds a pod while the daemon is away. It starts, and does
// not stay without inspection.
func TestAddWithoutDaemon(t *testing.T) {
	r := newRig(t, api.Ignore)
	network := r.open(t, bridgeList, "1.1.0", api.Ignore)
	a, gone := newPod(t, network, "a"), newPod(t, network, "gone")
	if err := gone.NetNS.Remove(); err != nil { // by a runtime that has crashed
		t.Fatal(err)
	}
	r.start(t)
	if err := a.Check(t.Context()); err != nil {
		t.Errorf("CHECK after the daemon's start: %v", err)
	}
	r.eventuallyAttached(t, a.Key())
	b := newPod(t, network, "b")
	r.checkSeen(t, a, b)
	got := r.list(t)[slices.IndexFunc(r.list(t), func(x api.Attachment) bool { return x.Key == a.Key() })]
	if got.Origin != api.OriginCNI || got.Pod.Name != "a" || got.Network != network.Name() {
		t.Errorf("attached as %+v", got)
	}
}

// TestSpoolStorm starts a daemon that was away for long.
func TestSpoolStorm(t *testing.T) {
	const adds, dels = 100, 400
	r := newRig(t, api.Ignore)
	dir := r.openSpool(t)
	var want []api.Key
	for i := range adds {
		ns := nstest.New(t)
		key := api.Key{ContainerID: fmt.Sprintf("add%03d", i), Ifname: "eth0"}
		want = append(want, key)
		e, err := spool.NewAdd(api.AttachRequest{
			Key: key, Network: "n", Origin: api.OriginCNI, NetnsPath: ns.Path(),
		}, ns.File(t), boottime.Now())
		if err == nil {
			err = dir.Write(e)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range dels {
		key := api.Key{ContainerID: fmt.Sprintf("del%03d", i), Ifname: "eth0"}
		spoolDel(t, dir, key, boottime.Now())
	}
	start := time.Now()
	r.start(t)
	t.Logf("start with %d spooled calls took %v", adds+dels, time.Since(start))
	if got := r.attached(t); !slices.Equal(got, want) || len(r.spooled(t)) > 0 {
		t.Errorf("%d attached, want %d; spooled %v", len(got), adds, r.spooled(t))
	}
	if _, err := r.Client.DetachAll(t.Context()); err != nil {
		t.Error(err)
	}
}

// stall is a daemon that hangs while calls arrive.
type stall struct {
	*rig
	policy     api.Policy
	stay       api.Key
	adds, dels []call
}

// stallCalls is how many ADD and how many DEL arrive. The backlog has room for
// some of them.
const (
	stallCalls   = 50
	stallBacklog = 16
)

// newStall attaches one pod that stays and those that are going to be deleted.
func newStall(t *testing.T, policy api.Policy) *stall {
	t.Helper()
	setBacklog(t, stallBacklog)
	s := &stall{rig: startRig(t, policy), policy: policy}
	newCall := func(id string) call {
		c := s.newCall(nstest.New(t).Path())
		c.containerID = id
		c.config["failurePolicy"] = policy
		return c
	}
	attached := func(c call) call {
		if o := c.run(t, "ADD"); o.failed {
			t.Fatal(o.stdout, o.stderr)
		}
		return c
	}
	s.stay = attached(newCall("stay")).key()
	for i := range stallCalls {
		s.adds = append(s.adds, newCall(fmt.Sprintf("add%02d", i)))
		s.dels = append(s.dels, attached(newCall(fmt.Sprintf("del%02d", i))))
	}
	return s
}

// setBacklog changes how many connections wait at most at sockets that are
// opened from now on.
func setBacklog(t *testing.T, n int) {
	t.Helper()
	const file = "/proc/sys/net/core/somaxconn"
	before, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, fmt.Append(nil, n), 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(file, before, 0); err != nil {
			t.Error(err)
		}
	})
}

func (c call) key() api.Key { return api.Key{ContainerID: c.containerID, Ifname: "eth0"} }

func keysOf(calls []call) []api.Key {
	var keys []api.Key
	for _, c := range calls {
		keys = append(keys, c.key())
	}
	return keys
}

// signal sends a signal to the daemon.
func (s *stall) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(s.PID(), sig); err != nil {
		t.Fatal(err)
	}
}

// arrive makes all calls at once while the daemon is stopped, and returns when
// each has ended by itself: the daemon goes on only then.
func (s *stall) arrive(t *testing.T) {
	t.Helper()
	s.signal(t, syscall.SIGSTOP)
	defer nstest.Eventually(t, patience, "the daemon answers again", func() bool {
		_, err := s.Client.Status(t.Context())
		return err == nil
	})
	defer s.signal(t, syscall.SIGCONT)
	var all sync.WaitGroup
	for i := range stallCalls {
		all.Go(func() {
			o := s.adds[i].run(t, "ADD")
			if s.policy == api.Fail {
				o.expectCode(t, api.CodeTryAgainLater)
				return
			}
			if o.failed || o.stdout != prevResult {
				t.Errorf("ADD: failed %t, %q", o.failed, o.stdout)
			}
		})
		all.Go(func() {
			o := s.dels[i].run(t, "DEL")
			if o.failed || o.stdout != "" || !strings.Contains(o.stderr, "DEL spooled") {
				t.Errorf("DEL: failed %t, %q, %s", o.failed, o.stdout, o.stderr)
			}
		})
	}
	all.Wait()
}

// TestStalledDaemon has calls arrive while the daemon hangs: some wait in the
// backlog, others find it full. Each ends with the policy's answer while the
// daemon still hangs, and when the daemon goes on, everything is as the calls have said.
func TestStalledDaemon(t *testing.T) {
	for _, policy := range []api.Policy{api.Ignore, api.Fail} {
		t.Run(string(policy), func(t *testing.T) {
			s := newStall(t, policy)
			s.arrive(t)
			want := []api.Key{s.stay}
			if policy == api.Ignore {
				want = append(want, keysOf(s.adds)...)
			} else {
				// An ADD that failed is followed by a DEL.
				for _, c := range s.adds {
					if o := c.run(t, "DEL"); o.failed || strings.Contains(o.stderr, "spooled") {
						t.Errorf("DEL: %s", o.stderr)
					}
				}
			}
			s.eventuallyAttached(t, want...)
			if err := s.Client.Check(t.Context(), s.stay); err != nil {
				t.Error(err)
			}
			if files, err := filepath.Glob(filepath.Join(s.dir, "attachments", "*.json")); err != nil ||
				len(files) != len(want) {
				t.Errorf("%d state files, %v; want %d", len(files), err, len(want))
			}
			if _, err := s.Client.DetachAll(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
