// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
	"github.com/nsqueue/nsqueue/daemon/internal/succession"
)

// worker is a daemon that runs.
type worker struct {
	pid     int
	started time.Time
	ready   bool
	// status is what it has said of itself last.
	status string
	// deadline is when the daemon is taken for hung; zero is never.
	deadline time.Time
	// killAt is when it is killed, after it was told to end; zero if it was not.
	killAt time.Time
	// told: it was told to end, which is no death then.
	told bool
	// lease is nil without a hand-over directory.
	lease *succession.Lease
	// waiting is what descriptors go to a prepared daemon by; nil once it has them.
	waiting  *succession.Conn
	mirror   succession.Mirror  // what it has of the store
	outbox   *succession.Outbox // nil unless something is being sent
	prepared bool
	// looks is how often it was asked to look at what it has, and has not answered.
	looks int
	// delivered: it was told to start with what it has.
	delivered bool
}

// spawn starts a daemon that inherits what is in the store.
func (s *supervisor) spawn(now time.Time) (*worker, error) {
	w := &worker{started: now, deadline: now.Add(s.config.StartTimeout)}
	return w, s.execute(w, s.store.held, nil)
}

// execute starts the daemon, with stored descriptors and those that variables name.
func (s *supervisor) execute(w *worker, stored []held, named map[string]int) error {
	program := s.self()
	target := s.config.Worker
	if target == "" {
		target = program
	}
	set := s.variables(target, stored)
	files := []uintptr{0, 1, 2}
	for _, h := range stored {
		files = append(files, uintptr(h.FD))
	}
	if err := s.addLease(w, set, &files); err != nil {
		w.close()
		return err
	}
	for variable, fd := range named {
		set[variable] = strconv.Itoa(len(files))
		files = append(files, uintptr(fd))
	}
	name := target
	if target == procSelf {
		name = s.executable
	}
	if err := keepFileLimit(len(files)); err != nil {
		s.log.Warn("the daemon starts with the limit of open files that this process started with",
			slog.Any("error", err))
	}
	argv := append([]string{name}, s.config.Args...)
	pid, err := syscall.ForkExec(program, argv, &syscall.ProcAttr{
		Env: environment(set), Files: files,
		// Tied to the thread that forks. No thread of this process ends before
		// the process does, because no goroutine is locked to one.
		Sys: &syscall.SysProcAttr{Pdeathsig: unix.SIGTERM},
	})
	if err != nil {
		w.close()
		return fmt.Errorf("start %s: %w", name, err)
	}
	w.pid = pid
	if err := s.oom.giveBack(pid); err != nil {
		s.log.Warn("the daemon keeps the supervisor's oom_score_adj", slog.Any("error", err))
	}
	return nil
}

// usualFiles is the soft limit of open files that most processes start with.
const usualFiles = 1024

// keepFileLimit has children keep the soft limit of open files that this process has, where
// they inherit more descriptors than they may open by the usual one: what is linked
// dynamically could not even open its libraries. Go's runtime has raised that of this process,
// and gives children the old one back as long as the program has not set one.
func keepFileLimit(inherited int) error {
	if inherited+usualFiles/2 < usualFiles {
		return nil
	}
	var files syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files)
	if err == nil {
		err = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files)
	}
	return os.NewSyscallError("setrlimit", err)
}

// addLease gives the daemon its lease, where there may be another supervisor.
func (s *supervisor) addLease(w *worker, set map[string]string, files *[]uintptr) error {
	if s.shared == nil {
		return nil
	}
	var err error
	if w.lease, err = succession.NewLease(); err != nil {
		return err
	}
	read, _ := w.lease.Ends()
	set[fdstore.EnvLease] = strconv.Itoa(len(*files))
	set[fdstore.EnvRole] = succession.ReportPath(s.config.RuntimeDir)
	set[fdstore.EnvRetirement] = succession.RetirementPath(s.config.HandoverDir)
	set[fdstore.EnvInstance] = s.config.Instance
	set[fdstore.EnvBegan] = strconv.FormatInt(int64(s.shared.began), 10)
	*files = append(*files, uintptr(read))
	return nil
}

// close closes what goes with a daemon that has ended.
func (w *worker) close() {
	w.lease.Close()
	if w.waiting != nil {
		w.waiting.Close()
		w.waiting = nil
	}
}

const procSelf = "/proc/self/exe"

// self is what to execute for another process of this very version: after the
// file at the path was replaced, that is not the path.
func (s *supervisor) self() string {
	named, err := os.Stat(s.executable)
	if err != nil {
		return procSelf
	}
	if own, err := os.Stat(procSelf); err != nil || !os.SameFile(named, own) {
		return procSelf
	}
	return s.executable
}

// variables are the protocol's.
func (s *supervisor) variables(target string, stored []held) map[string]string {
	set := map[string]string{
		envReexec:               target,
		envHandover:             "",
		fdstore.EnvNotifySocket: s.socket.path,
		fdstore.EnvCapacity:     strconv.Itoa(s.config.MaxDescriptors),
		fdstore.EnvListenPID:    "",
		fdstore.EnvListenFDs:    strconv.Itoa(len(stored)),
		fdstore.EnvListenNames:  namesOf(stored),
		fdstore.EnvWatchdog:     "",
		fdstore.EnvWatchdogPID:  "",
		fdstore.EnvSupervisor:   strconv.Itoa(os.Getpid()),
		fdstore.EnvRestarts:     strconv.Itoa(s.restarts),
		fdstore.EnvLease:        "",
		fdstore.EnvDescriptors:  "",
		fdstore.EnvRole:         "",
		fdstore.EnvRetirement:   "",
		fdstore.EnvInstance:     "",
		fdstore.EnvBegan:        "",
	}
	if s.config.Watchdog > 0 {
		set[fdstore.EnvWatchdog] = strconv.FormatInt(s.config.Watchdog.Microseconds(), 10)
	}
	return set
}

// environment is this process' own with these variables, those without a value not.
func environment(set map[string]string) []string {
	var env []string
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if _, ok := set[name]; !ok {
			env = append(env, variable)
		}
	}
	for name, value := range set {
		if value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// alive notes a sign of life.
func (w *worker) alive(now time.Time, watchdog time.Duration) {
	switch {
	case !w.ready || !w.killAt.IsZero():
	case watchdog == 0:
		w.deadline = time.Time{}
	default:
		w.deadline = now.Add(watchdog)
	}
}

// attrs tell a log about the daemon.
func (w *worker) attrs() []any {
	return []any{slog.Int("pid", w.pid), slog.Bool("ready", w.ready)}
}

// tell sends the daemon a signal and has it killed later, if later is not zero.
func (w *worker) tell(sig unix.Signal, later time.Time) {
	w.deadline = time.Time{}
	if w.killAt.IsZero() || later.Before(w.killAt) {
		w.killAt = later
	}
	_ = unix.Kill(w.pid, sig) // a child that was not reaped always exists
}

// stopped reports whether the process is stopped, so that no signal but
// SIGKILL does anything.
func (w *worker) stopped() bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", w.pid))
	if err != nil {
		return false
	}
	// PID (NAME) STATE, where the name may contain anything.
	_, rest, _ := strings.Cut(string(b[strings.LastIndexByte(string(b), ')')+1:]), " ")
	return strings.HasPrefix(rest, "T") || strings.HasPrefix(rest, "t")
}

// ending tells how a process ended, and the exit code that means it.
func ending(status unix.WaitStatus) (text string, code int) {
	if status.Signaled() {
		return "killed by " + unix.SignalName(status.Signal()), 128 + int(status.Signal())
	}
	return "exited with " + strconv.Itoa(status.ExitStatus()), status.ExitStatus()
}
