// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/fault"
	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
	"github.com/nsqueue/nsqueue/daemon/internal/succession"
)

// dirEnv is the directory that a test shares with its processes.
const dirEnv = "SUPERVISE_TEST_DIR"

// sharedEnv is the hand-over directory; the runtime directory is another one then.
const sharedEnv = "SUPERVISE_TEST_SHARED"

// TestMain makes the test binary the supervisor and the daemon as well.
func TestMain(m *testing.M) {
	if err := Reexec(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	run := map[string]func() error{
		"--version": func() error {
			if mode("") == "broken" {
				return errors.New("broken")
			}
			_, err := fmt.Println(version())
			return err
		},
		"supervisor": runSupervisor, "worker": runWorker,
		Command: func() error {
			if len(os.Args) != 3 || os.Args[2] != "--"+FormatFlag {
				return fmt.Errorf("arguments %q", os.Args)
			}
			return say(HandoverFormats())
		},
	}
	if len(os.Args) < 2 || run[os.Args[1]] == nil {
		os.Exit(m.Run())
	}
	// Not os.Exit: under the race detector that takes a second.
	err := run[os.Args[1]]()
	if err == nil {
		unix.Exit(0)
	}
	fmt.Fprintln(os.Stderr, err)
	if exit, ok := errors.AsType[*ExitError](err); ok {
		unix.Exit(exit.ExitCode())
	}
	unix.Exit(1)
}

// version is what the file of this program ends with.
func version() string {
	b, err := os.ReadFile(procSelf)
	if err != nil {
		return err.Error()
	}
	return string(b[len(b)-versionLen:])
}

const versionLen = 2

// mode is what a worker does; the test writes it, and for one version alone.
func mode(of string) string {
	b, err := os.ReadFile(filepath.Join(os.Getenv(dirEnv), "mode"+of))
	if err != nil {
		return ""
	}
	return string(b)
}

// runSupervisor supervises by the values that are its arguments.
func runSupervisor() error {
	c := DefaultConfig()
	c.RuntimeDir = os.Getenv(dirEnv)
	c.Args = []string{"worker"}
	if shared := os.Getenv(sharedEnv); shared != "" {
		c.HandoverDir, c.RuntimeDir = shared, filepath.Join(c.RuntimeDir, "run")
		c.Version, c.StateVersion, c.at = version(), 1, atPoint
		c.times = succession.Times{ // which only catch what hangs
			Answer: time.Minute, Prepare: time.Minute, Stop: 2 * time.Minute, Start: time.Minute,
		}
	}
	for _, arg := range os.Args[2:] {
		name, text, _ := strings.Cut(arg, "=")
		switch name {
		case "deaths", "descriptors", "state":
			n, err := strconv.Atoi(text)
			if err != nil {
				return err
			}
			*map[string]*int{
				"deaths": &c.MaxDeaths, "descriptors": &c.MaxDescriptors, "state": &c.StateVersion,
			}[name] = n
			continue
		case "instance":
			c.Instance = text
			continue
		}
		d, err := time.ParseDuration(text)
		if err != nil {
			return err
		}
		*map[string]*time.Duration{
			"watchdog": &c.Watchdog, "start": &c.StartTimeout, "stop": &c.StopTimeout,
			"abort": &c.AbortGrace, "window": &c.DeathWindow, "linger": &c.Linger,
			"answer": &c.times.Answer, "take": &c.times.Start, "hand": &c.times.Stop,
		}[name] = d
	}
	// Orphans become children of this process, as of a container's init.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return err
	}
	return Run(c, slog.New(slog.NewTextHandler(os.Stderr, nil)))
}

// atPoint kills or stops this process at the point that a file names.
func atPoint(p fault.Point) {
	file := filepath.Join(os.Getenv(dirEnv), "fault")
	b, err := os.ReadFile(file)
	name, stop := strings.CutPrefix(string(b), fault.Stop)
	if err != nil || name != string(p) || os.Remove(file) != nil {
		return
	}
	if stop {
		_ = unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGSTOP)
		return
	}
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	select {}
}

// runWorker is a daemon that tells on standard output what happens to it.
func runWorker() error {
	notifications := os.Getenv(fdstore.EnvNotifySocket)
	s, err := fdstore.FromEnvironment(fdstore.ProcessEnvironment())
	if err != nil {
		return err
	}
	if s.Waits() {
		if mode("") == "unprepared" {
			unix.Exit(3)
		}
		if err := s.Await(func([]fdstore.Descriptor) {}); err != nil {
			return err
		}
	}
	var inherited []string
	for _, d := range s.Inherited() {
		b := make([]byte, 64)
		n, err := d.File.ReadAt(b, 0)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		inherited = append(inherited, d.Name+"="+string(b[:n]))
	}
	kind, argument, _ := strings.Cut(mode("")+mode(version()), " ")
	fmt.Printf("started %d %s restarts=%d ppid=%d contested=%t inherited=%s\n", os.Getpid(), version(),
		s.Supervisor().Restarts, os.Getppid(), s.Contested(), strings.Join(inherited, ","))
	caught := make(chan os.Signal, 8)
	signal.Notify(caught, unix.SIGTERM, unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2)
	switch kind {
	case "crash":
		unix.Exit(3)
	case "put-and-die": // twice
		if len(s.Inherited()) == 2*len(strings.Fields(argument)) {
			break
		}
		if err := putNames(s, argument); err != nil {
			return err
		}
		return unix.Kill(os.Getpid(), unix.SIGKILL)
	case "mute":
		<-caught
		return nil
	case "never-ready":
		if err := askForTheWatchdog(notifications); err != nil {
			return err
		}
		<-caught
		return nil
	case "stops":
		signal.Notify(make(chan os.Signal, 1), unix.SIGABRT) // only SIGKILL ends it
	case "put":
		if len(s.Inherited()) == 0 {
			if err := putNames(s, argument); err != nil {
				return err
			}
		}
	case "tables":
		if err := putTables(s); err != nil {
			return err
		}
	case "orphan":
		// The child outlives its parent by being started in between.
		cmd := exec.Command("sh", "-c", "sleep 0.05 & echo orphan $!")
		cmd.Stdout = os.Stdout
		if err := cmd.Run(); err != nil {
			return err
		}
	}
	if err := s.Ready("is ready"); err != nil {
		return err
	}
	fmt.Println("ready")
	if kind == "stops" {
		err := errors.Join(askForTheWatchdog(notifications), unix.Kill(os.Getpid(), unix.SIGSTOP))
		if err != nil {
			return err
		}
	}
	return live(s, kind, caught)
}

// askForTheWatchdog has this process taken for hung at once: a short watchdog
// would do that, on a busy machine, to the one that follows too.
func askForTheWatchdog(socket string) error {
	conn, err := net.Dial("unixgram", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = io.WriteString(conn, "WATCHDOG=trigger")
	return err
}

// live is the worker's life after it was ready.
func live(s *fdstore.Store, kind string, caught chan os.Signal) error {
	tick := time.NewTicker(max(s.Watchdog()/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if kind == "silent" {
				continue
			}
			// A supervisor that is gone will have this process stopped.
			if err := s.Alive(); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		case sig := <-caught:
			switch sig {
			case unix.SIGHUP:
				if kind == "tables" {
					if err := errors.Join(removeTables(s), say("removed"), s.Alive()); err != nil {
						return err
					}
					fmt.Println("alive")
					continue
				}
				fmt.Println("hup")
			case unix.SIGUSR1:
				if err := s.Remove(fdstore.Name{Kind: fdstore.Queue, Cookie: 1}); err != nil {
					return err
				}
				fmt.Println("removed")
			case unix.SIGUSR2:
				if err := errors.Join(putNames(s, "q9i"), say("put")); err != nil {
					return err
				}
			case unix.SIGTERM:
				fmt.Println("stopping keeps=" + strconv.FormatBool(s.Keeps()))
				if kind == "deaf" {
					continue
				}
				if kind == "exits" {
					unix.Exit(7)
				}
				if kind == "bereaved" {
					for s.Keeps() { // the supervisor still ends
						<-tick.C
					}
					fmt.Println("keeps nothing")
				}
				return nil
			}
		}
	}
}

func say(word string) error {
	_, err := fmt.Println(word)
	return err
}

// putNames stores a file for each of the names, with its number in it.
func putNames(s *fdstore.Store, names string) error {
	for i, text := range strings.Fields(names) {
		name, err := fdstore.ParseName(text)
		if err != nil {
			return err
		}
		fd, err := unix.MemfdCreate(text, unix.MFD_CLOEXEC)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), text)
		if _, err := f.WriteString(strconv.Itoa(i)); err != nil {
			return err
		}
		if err := s.Put(name, f); err != nil {
			return err
		}
	}
	return nil
}
