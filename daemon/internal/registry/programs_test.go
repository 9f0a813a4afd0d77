// SPDX-License-Identifier: Apache-2.0

//go:build netns

package registry_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/cgroup"
	"github.com/nsqueue/nsqueue/daemon/internal/fdstore/fdstoretest"
	"github.com/nsqueue/nsqueue/daemon/internal/program"
	"github.com/nsqueue/nsqueue/daemon/internal/programs"
	"github.com/nsqueue/nsqueue/daemon/internal/registry"
	"github.com/nsqueue/nsqueue/test/marks"
	"github.com/nsqueue/nsqueue/test/nstest"
)

const programQueue = 90

// withProgram starts a daemon that keeps the program for each pod.
func withProgram(t *testing.T, change func(*programs.Config), args ...string) *daemon {
	t.Helper()
	dir := t.TempDir()
	nstest.Must(t, os.Chmod(filepath.Dir(dir), 0o755)) // every user may execute it
	path, err := marks.Build(dir)
	nstest.Must(t, err)
	c := &programs.Config{
		Name: "seed", Wait: reply, Budget: reply,
		Backoff: 10 * time.Millisecond, MaxBackoff: 50 * time.Millisecond,
		Spec: program.Spec{
			Command: append([]string{path, "-q", "${QUEUE}"}, args...), Queue: programQueue, Queues: 1,
			UID: 65534, GID: 65534, Capabilities: []uintptr{unix.CAP_NET_ADMIN},
		},
	}
	if change != nil {
		change(c)
	}
	d := prepare(t, inspect.Func(func(*inspect.Packet) inspect.Verdict {
		return inspect.Verdict{Action: inspect.Queue, Queue: programQueue}
	}))
	d.programs = []*programs.Config{c}
	d.kept, err = programs.New(programs.Options{
		Mounts: cgroup.DefaultMounts, StateDir: d.dir, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	nstest.Must(t, err)
	d.supervisor = fdstoretest.New(t)
	d.run()
	return d
}

// programOf returns the pod's program as the API tells of it.
func (d *daemon) programOf() api.Program {
	d.t.Helper()
	got, err := d.Describe(d.t.Context(), request("one", nil, "").Key)
	nstest.Must(d.t, err)
	if len(got.Programs) != 1 {
		d.t.Fatalf("programs %+v, want one", got.Programs)
	}
	return got.Programs[0]
}

// awaitProgram waits until the program is as it should be.
func (d *daemon) awaitProgram(what string, is func(api.Program) bool) api.Program {
	d.t.Helper()
	var last api.Program
	nstest.Eventually(d.t, reply, what, func() bool {
		last = d.programOf()
		return is(last)
	})
	return last
}

func ready(p api.Program) bool { return p.Ready }

// awaitEvent waits for an event about programs.
func (d *daemon) awaitEvent(text string) {
	d.t.Helper()
	nstest.Eventually(d.t, reply, "an event with "+text, func() bool {
		list, err := d.Events(d.t.Context())
		nstest.Must(d.t, err)
		for _, e := range list {
			if e.Kind == api.EventProgram && strings.Contains(e.Message, text) {
				return true
			}
		}
		return false
	})
}

// wantNoGroups waits until nothing is left of programs.
func (d *daemon) wantNoGroups() {
	d.t.Helper()
	nstest.Eventually(d.t, reply, "no groups of programs", func() bool {
		groups, err := d.kept.Groups()
		nstest.Must(d.t, err)
		return len(groups) == 0
	})
}

// A program reads what the daemon accepts, in the pod's netns and with its few rights,
// and is gone after the pod.
func TestProgram(t *testing.T) {
	for _, direct := range []bool{false, true} {
		t.Run(fmt.Sprintf("direct %v", direct), func(t *testing.T) {
			d := withProgram(t, func(c *programs.Config) { c.Direct = direct }, "-m", "0x10")
			pod, peer := nstest.Pair(t)
			d.attach("one", pod, api.Fail)
			p := d.programOf()
			if !p.Ready || p.PID == 0 || p.Usage == nil || p.Usage.MemoryBytes == 0 {
				t.Fatalf("%+v, usage %+v: want one that reads its queue", p, p.Usage)
			}
			checkRights(t, p.PID)
			if got := peer.Ping(t, pod.IPv4(), 3, reply); got != 3 {
				t.Errorf("%d of 3 pings answered", got)
			}
			if n := d.counters("one").Queued; (n == 0) != direct {
				t.Errorf("%d packets were sent to the program by the daemon", n)
			}
			nstest.Must(t, d.Check(t.Context(), request("one", nil, "").Key))
			nstest.Must(t, d.Detach(t.Context(), request("one", nil, "").Key))
			d.wantNothing(pod)
			d.wantNoGroups()
			if err := unix.Kill(p.PID, 0); err == nil {
				t.Error("the process is still there")
			}
		})
	}
}

// checkRights looks at what the process may do.
func checkRights(t *testing.T, pid int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	nstest.Must(t, err)
	for _, want := range []string{
		"Uid:\t65534\t65534", "CapEff:\t0000000000001000", "CapBnd:\t0000000000001000",
		"NoNewPrivs:\t1",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// While the program is away, the failure policy or what is configured decides.
func TestProgramAway(t *testing.T) {
	for _, test := range []struct {
		away   programs.Away
		policy api.Policy
		passes bool
	}{
		{programs.AwayPolicy, api.Ignore, true},
		{programs.AwayPolicy, api.Fail, false},
		{programs.AwayAccept, api.Fail, true},
		{programs.AwayRules, api.Fail, true},
		{programs.AwayDrop, api.Ignore, false},
	} {
		for _, direct := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d %s direct %v", test.away, test.policy, direct), func(t *testing.T) {
				d := withProgram(t, func(c *programs.Config) {
					c.Away, c.Direct, c.Wait = test.away, direct, 0
				}, "-o", "exit=0")
				pod, peer := nstest.Pair(t)
				d.attach("one", pod, test.policy)
				d.awaitEvent("exited with code 3 before it had bound queue 90")
				limit, want := reply, 2
				if !test.passes {
					limit, want = silence, 0
				}
				if got := peer.Ping(t, pod.IPv4(), 2, limit); got != want {
					t.Errorf("%d of 2 pings answered, want %d", got, want)
				}
				d.awaitProgram("restarts", func(p api.Program) bool { return p.Restarts > 3 })
				d.awaitEvent("exited with code 3")
				if p := d.programOf(); !strings.Contains(p.Problem, "ends again and again") {
					t.Errorf("problem %q", p.Problem)
				}
			})
		}
	}
}

// A killed program is started again; what waited for it has the policy's verdict. Its
// children go with it.
func TestProgramKilled(t *testing.T) {
	for _, direct := range []bool{false, true} {
		d := withProgram(t, func(c *programs.Config) { c.Direct = direct }, "-o", "fork")
		pod, peer := nstest.Pair(t)
		d.attach("one", pod, api.Ignore)
		for range 3 {
			before := d.awaitProgram("the program reads", ready)
			nstest.Must(t, unix.Kill(before.PID, unix.SIGKILL))
			d.awaitProgram("another process reads", func(p api.Program) bool {
				return p.Ready && p.PID != before.PID
			})
			pids, err := d.kept.Processes()
			nstest.Must(t, err)
			if len(pids) != 2 {
				t.Errorf("processes %v, want the program and its child", pids)
			}
			if got := peer.Ping(t, pod.IPv4(), 2, reply); got != 2 {
				t.Errorf("%d of 2 pings answered", got)
			}
		}
		d.awaitEvent("was ended by signal SIGKILL")
		nstest.Must(t, d.Detach(t.Context(), request("one", nil, "").Key))
		d.wantNoGroups()
	}
}

// A program that answers nothing is ended; what waits passes under Ignore.
func TestProgramHangs(t *testing.T) {
	d := withProgram(t, func(c *programs.Config) { c.Budget = 100 * time.Millisecond }, "-o", "hold")
	pod, peer := nstest.Pair(t)
	d.attach("one", pod, api.Ignore)
	before := d.programOf().PID
	if got := peer.Ping(t, pod.IPv4(), 1, reply); got != 1 {
		t.Errorf("%d of 1 ping answered", got)
	}
	d.awaitEvent("hangs: it has answered no packet for")
	d.awaitProgram("another process reads", func(p api.Program) bool {
		return p.Ready && p.PID != before
	})
}

// A program that lets go of its queue is ended, when packets come that it should read.
func TestProgramLetsGo(t *testing.T) {
	for _, direct := range []bool{false, true} {
		d := withProgram(t, func(c *programs.Config) {
			c.Direct, c.Budget = direct, 100*time.Millisecond
		}, "-o", "leave=2")
		pod, peer := nstest.Pair(t)
		d.attach("one", pod, api.Ignore)
		before := d.programOf().PID
		nstest.Eventually(t, reply, "another process reads", func() bool {
			peer.Ping(t, pod.IPv4(), 1, silence)
			p := d.programOf()
			return p.Ready && p.PID != before
		})
		d.awaitEvent("reads queue 90 no more")
	}
}

// A program that does not end when it is asked to holds no call up.
func TestProgramIsStubborn(t *testing.T) {
	d := withProgram(t, nil, "-o", "stubborn")
	pod, _ := nstest.Pair(t)
	d.attach("one", pod, api.Ignore)
	nstest.Must(t, d.Detach(t.Context(), request("one", nil, "").Key))
	d.wantNothing(pod)
	d.awaitEvent("does not end when it is asked to")
	d.wantNoGroups()
}

// A program that binds another number gets no packets, and operators are told.
func TestProgramBindsOtherQueue(t *testing.T) {
	d := withProgram(t, func(c *programs.Config) { c.Wait = 0 }, "-o", "other")
	pod, peer := nstest.Pair(t)
	d.attach("one", pod, api.Ignore)
	d.awaitEvent("has not bound queue 90, but [91]")
	if got := peer.Ping(t, pod.IPv4(), 1, reply); got != 1 {
		t.Errorf("%d of 1 ping answered", got)
	}
}

// A program that takes more memory than it may is ended, and started again.
func TestProgramEatsMemory(t *testing.T) {
	d := withProgram(t, func(c *programs.Config) {
		c.Wait = 0
		c.Spec.Limits = cgroup.Limits{Memory: 16 << 20, PIDs: 8, CPUWeight: 50}
	}, "-o", "eat")
	pod, _ := nstest.Pair(t)
	d.attach("one", pod, api.Ignore)
	d.awaitEvent("its memory was used up")
	d.awaitProgram("a restart", func(p api.Program) bool { return p.Restarts > 0 })
}

// Detaching does not wait for a program that is starting.
func TestProgramDetachedWhileItStarts(t *testing.T) {
	d := withProgram(t, func(c *programs.Config) { c.Spec.Command = []string{"/bin/sleep", "1000"} })
	pod, _ := nstest.Pair(t)
	attached := make(chan error, 1)
	go func() {
		_, err := d.Attach(context.WithoutCancel(t.Context()), request("one", pod, api.Fail), nil)
		attached <- err
	}()
	nstest.Eventually(t, reply, "a process", func() bool {
		pids, err := d.kept.Processes()
		return err == nil && len(pids) == 1
	})
	nstest.Must(t, d.Detach(t.Context(), request("one", nil, "").Key))
	nstest.Must(t, <-attached)
	d.wantNothing(pod)
	d.wantNoGroups()
}

// Programs go on while daemons follow each other, and are started anew only if another one
// is configured.
func TestProgramsOverRestarts(t *testing.T) {
	d := withProgram(t, nil)
	pod, peer := nstest.Pair(t)
	d.attach("one", pod, api.Ignore)
	before := d.programOf().PID
	d.supervisor.Await(3)
	for range 3 {
		d.restart()
		d.awaitProgram("the program reads", ready)
		if got := d.programOf().PID; got != before {
			t.Errorf("process %d, want %d", got, before)
		}
		if got := peer.Ping(t, pod.IPv4(), 2, reply); got != 2 {
			t.Errorf("%d of 2 pings answered", got)
		}
		d.supervisor.Await(3)
	}
	d.programs[0].Spec.Env = []string{"OTHER=1"}
	d.restart()
	d.awaitProgram("another process reads", func(p api.Program) bool {
		return p.Ready && p.PID != before
	})
	d.programs = nil
	d.restart()
	d.wantNoGroups()
	d.supervisor.Await(2)
	if got := peer.Ping(t, pod.IPv4(), 2, reply); got != 2 {
		t.Errorf("%d of 2 pings answered without a program", got)
	}
}

// Of a program that dies while no daemon runs, what waits has its verdict from the next one.
func TestProgramDiesBetweenDaemons(t *testing.T) {
	d := withProgram(t, nil)
	pod, peer := nstest.Pair(t)
	d.attach("one", pod, api.Ignore)
	before := d.programOf().PID
	nstest.Must(t, d.Suspend())
	nstest.Must(t, d.Registry.Close())
	nstest.Must(t, d.store.Close())
	nstest.Must(t, unix.Kill(before, unix.SIGKILL))
	d.run()
	d.awaitProgram("another process reads", func(p api.Program) bool {
		return p.Ready && p.PID != before
	})
	if got := peer.Ping(t, pod.IPv4(), 2, reply); got != 2 {
		t.Errorf("%d of 2 pings answered", got)
	}
}

// A program in the netns keeps no pod alive that is gone.
func TestProgramOfGonePod(t *testing.T) {
	d := withProgram(t, nil)
	pod, process := hiddenPod(t)
	req := request("one", nil, api.Fail)
	req.NetnsPath = fmt.Sprintf("/proc/%d/ns/net", process.Process.Pid)
	_, err := d.Attach(t.Context(), req, pod)
	nstest.Must(t, err)
	d.Verify(t.Context())
	d.wantAttached(1)
	end(process)
	d.SetAge("one", -2*registry.EmptyTime)
	d.Verify(t.Context())
	d.wantAttached(0)
	d.wantNoGroups()
}
