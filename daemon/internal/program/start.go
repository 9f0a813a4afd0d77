// SPDX-License-Identifier: Apache-2.0

package program

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/cgroup"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
)

// path is where programs find others.
const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Start starts the program in the netns and the group. What it prints is read from the
// file that is returned; it is never told that nobody reads it.
func (s *Spec) Start(ns *netns.NetNS, g *cgroup.Group, pod *Pod) (*Process, *os.File, error) {
	args, err := s.expandAll(s.Command[1:], pod)
	if err != nil {
		return nil, nil, err
	}
	env, err := s.expandAll(s.Env, pod)
	if err != nil {
		return nil, nil, err
	}
	output, theirs, err := outputPipe()
	if err != nil {
		return nil, nil, err
	}
	defer theirs.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, nil, errors.Join(err, output.Close())
	}
	defer null.Close()
	attr := &syscall.ProcAttr{
		Dir: "/", Env: append([]string{path, "HOME=/"}, env...),
		Files: []uintptr{null.Fd(), theirs.Fd(), theirs.Fd()},
	}
	p, err := s.start(ns, g, append(s.Command[:1:1], args...), attr)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("start %s: %w", s.Command[0], err), output.Close())
	}
	return p, output, nil
}

func (s *Spec) start(
	ns *netns.NetNS, g *cgroup.Group, argv []string, attr *syscall.ProcAttr,
) (*Process, error) {
	pid, pidfd := 0, -1
	attr.Sys = &syscall.SysProcAttr{
		Setsid: true, PidFD: &pidfd, AmbientCaps: s.Capabilities,
		Credential: &syscall.Credential{Uid: s.UID, Gid: s.GID},
	}
	err := ns.DoAndEnd(func() error {
		if err := s.giveUpRights(); err != nil {
			return err
		}
		group, err := g.Enter(attr.Sys)
		if err != nil {
			return err
		}
		if group != nil {
			defer group.Close()
		}
		pid, err = syscall.ForkExec(argv[0], argv, attr)
		return err
	})
	if err != nil {
		return nil, err
	}
	_ = os.WriteFile(procPath(pid, "oom_score_adj"), []byte("0"), 0) // and not the daemon's
	p, err := newProcess(pid, pidfd, g)
	if err != nil {
		return nil, errors.Join(err, g.Kill())
	}
	p.child = true
	return p, nil
}

// giveUpRights has what the calling thread starts never get other rights than those of
// the spec. The thread has to end then.
func (s *Spec) giveUpRights() error {
	for c := range uintptr(unix.CAP_LAST_CAP + 1) {
		if slices.Contains(s.Capabilities, c) {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if err != nil && !errors.Is(err, unix.EINVAL) { // the kernel does not have it
			return fmt.Errorf("give up capability %d: %w (nsqueued needs CAP_SETPCAP)", c, err)
		}
	}
	return os.NewSyscallError("prctl PR_SET_NO_NEW_PRIVS",
		unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
}

func procPath(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }
