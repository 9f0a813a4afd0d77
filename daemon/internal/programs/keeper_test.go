// SPDX-License-Identifier: Apache-2.0

//go:build netns

package programs

import (
	"log/slog"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/internal/cgroup"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/daemon/internal/program"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
	"github.com/nsqueue/nsqueue/test/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

const silence = 200 * time.Millisecond

// watched is a path that calls saved when the keeper has started a process.
type watched struct{ saved func() }

func (watched) Open([]*nfqueue.Copy) error { return nil }
func (watched) Close() (int, error)        { return 0, nil }
func (watched) Sent() uint64               { return 0 }
func (w watched) Save(state.Program)       { w.saved() }
func (watched) Report(slog.Level, string)  {}
func (watched) Trouble(string, bool)       {}

// The next program of a name is started when the last one's keeper has nothing left to do,
// which would end it.
func TestKeepersFollowEachOther(t *testing.T) {
	p, err := New(Options{
		Mounts: cgroup.DefaultMounts, StateDir: t.TempDir(),
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	nstest.Must(t, err)
	ns, err := netns.Open(nstest.New(t).Path())
	nstest.Must(t, err)
	defer ns.Close()
	c := &Config{Name: "sleeps", Spec: program.Spec{
		Command: []string{"/bin/sleep", "1000"}, Queue: 90, Queues: 1, UID: 65534, GID: 65534,
	}}
	keep := func(saved func()) *Keeper {
		k, err := p.Keep(c, ns, program.Pod{}, nil, watched{saved}, nil)
		nstest.Must(t, err)
		return k
	}
	began, release := make(chan struct{}), make(chan struct{})
	first := keep(func() {
		close(began)
		<-release
	})
	<-began
	first.Stop()
	nextBegan := make(chan struct{})
	next := keep(func() { close(nextBegan) })
	select {
	case <-nextBegan:
		t.Error("the next program was started while the last one had its group")
	case <-time.After(silence):
	}
	close(release)
	<-first.Done()
	<-nextBegan
	if err := p.Sweep(nil); err != nil {
		t.Error(err)
	}
	if pids, err := p.Processes(); err != nil || !pids[next.Status().PID] {
		t.Errorf("processes %v, %v, want %d", pids, err, next.Status().PID)
	}
	next.Stop()
	<-next.Done()
	if groups, err := p.Groups(); err != nil || len(groups) != 0 {
		t.Errorf("left: groups %v, %v", groups, err)
	}
}
