// SPDX-License-Identifier: Apache-2.0

// Package supervise is the parent process of a daemon where there is no
// systemd. It holds the daemon's descriptors, so that queues with everything
// in them outlive the daemon, starts a daemon that died or hangs again, and
// replaces itself and the daemon by a newer version.
//
// It speaks the supervisor's side of systemd's notification and descriptor
// store protocol; daemon/internal/fdstore speaks the other one.
//
// The daemon is told to stop (SIGTERM) when the supervisor dies alone: it has
// no store any more, and in its place the next supervisor's daemon could not
// start.
package supervise

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/nsqueue/nsqueue/daemon/internal/fault"
	"github.com/nsqueue/nsqueue/daemon/internal/succession"
)

// Config is how a daemon is supervised. Start from [DefaultConfig].
type Config struct {
	// Worker is the daemon's program; empty means this very program.
	Worker string
	// Args are the daemon's arguments, without its name.
	Args []string
	// RuntimeDir is where the notification socket is made. One supervisor at a
	// time can use it.
	RuntimeDir string
	// MaxDescriptors is how many the daemon may store.
	MaxDescriptors int
	// Watchdog is how long the daemon may be silent; zero is for ever.
	Watchdog time.Duration
	// StartTimeout is how long it may take to be ready.
	StartTimeout time.Duration
	// StopTimeout is how long it may take to stop, before it is killed.
	StopTimeout time.Duration
	// AbortGrace is how long a daemon that hangs has for the report that
	// SIGABRT makes it write, before it is killed.
	AbortGrace time.Duration
	// MaxDeaths within DeathWindow make the supervisor give up; zero means
	// that it never does.
	MaxDeaths   int
	DeathWindow time.Duration
	// HandoverDir is shared with the supervisors that follow this one or were before
	// it, perhaps in other mount and PID namespaces; empty where there are none.
	HandoverDir string
	// Linger is how long the daemon goes on after SIGTERM for a successor to come.
	Linger time.Duration
	// Instance is whose supervisor this is. Only those of one follow each other.
	Instance string
	// Version of this program, and StateVersion of the state files that its daemon
	// knows.
	Version      string
	StateVersion int

	// at is called at each point of a hand-over, by tests.
	at    func(fault.Point)
	times succession.Times
}

// DefaultConfig returns what a supervisor does that is told nothing.
func DefaultConfig() Config {
	times := succession.DefaultTimes()
	times.Stop, times.Start = fault.Hurried(times.Stop), fault.Hurried(times.Start)
	return Config{
		RuntimeDir: "/run/nsqueue",
		// A queue and a table for each of 4,000 pods.
		MaxDescriptors: 8192,
		Watchdog:       10 * time.Second,
		StartTimeout:   time.Minute,
		// Container runtimes send SIGKILL 10 s after SIGTERM.
		StopTimeout: 8 * time.Second,
		AbortGrace:  2 * time.Second,
		MaxDeaths:   3,
		DeathWindow: 10 * time.Second,
		at:          fault.At,
		times:       times,
	}
}

// Validate reports everything that is wrong with the configuration.
func (c *Config) Validate() error {
	var errs []error
	if !filepath.IsAbs(c.RuntimeDir) {
		errs = append(errs, fmt.Errorf("runtime directory %q: want an absolute path", c.RuntimeDir))
	}
	if c.MaxDescriptors < 1 {
		errs = append(errs, fmt.Errorf("max descriptors %d: want at least 1", c.MaxDescriptors))
	}
	if c.MaxDeaths < 0 {
		errs = append(errs, fmt.Errorf("max deaths %d: want 0 or more", c.MaxDeaths))
	}
	if c.Watchdog < 0 {
		errs = append(errs, fmt.Errorf("watchdog %v: want 0s or more", c.Watchdog))
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"start timeout", c.StartTimeout},
		{"stop timeout", c.StopTimeout},
		{"abort grace", c.AbortGrace},
		{"death window", c.DeathWindow},
	} {
		if d.value <= 0 {
			errs = append(errs, fmt.Errorf("%s %v: want more than 0s", d.name, d.value))
		}
	}
	return errors.Join(append(errs, c.validateHandover())...)
}

// maxInstance is the length of the name of a namespace and a name in it, with a slash.
const maxInstance = 253 + 1 + 253

func (c *Config) validateHandover() error {
	var errs []error
	if c.Linger < 0 {
		errs = append(errs, fmt.Errorf("linger %v: want 0s or more", c.Linger))
	}
	if len(c.Instance) > maxInstance {
		errs = append(errs, fmt.Errorf("instance of %d bytes: want at most %d", len(c.Instance),
			maxInstance))
	}
	switch {
	case c.HandoverDir != "":
		if err := succession.CheckDir(c.HandoverDir); err != nil {
			errs = append(errs, fmt.Errorf("hand-over directory %w", err))
		}
		if filepath.Clean(c.HandoverDir) == filepath.Clean(c.RuntimeDir) {
			errs = append(errs, fmt.Errorf("hand-over directory %q: the runtime directory must be "+
				"another one, which each supervisor has for itself", c.HandoverDir))
		}
	case c.Linger != 0 || c.Instance != "":
		errs = append(errs, errors.New(
			"linger and instance: they have no meaning without a hand-over directory"))
	}
	return errors.Join(errs...)
}

// ExitError is how the daemon ended when that is how the supervisor ends.
type ExitError struct {
	// Code is the daemon's exit code, 128 and the signal's number where it was
	// killed.
	Code   int
	reason string
}

// Error says why, in a sentence for the operator.
func (e *ExitError) Error() string { return e.reason }

// ExitCode is what the supervisor's process should exit with.
func (e *ExitError) ExitCode() int { return e.Code }

// Run supervises a daemon until SIGTERM or SIGINT, and stops it then. SIGHUP is
// passed on; SIGUSR2 replaces this process and the daemon by what is at the
// executable's path by then.
//
// With a hand-over directory, Run takes over from the active supervisor of it before
// that, and gives to the next one. Run reaps every child of this process, so that it
// must be the process' only business, and can be its container's init.
func Run(c Config, log *slog.Logger) error {
	if err := c.Validate(); err != nil {
		return err
	}
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	s := &supervisor{config: c, executable: executable, log: log}
	before, err := takeHandover()
	if err != nil {
		return fmt.Errorf("take over from the supervisor before this one: %w", err)
	}
	if err := s.open(before); err != nil {
		return err
	}
	defer s.close()
	if s.shared != nil {
		s.shared.begin(time.Now())
	} else {
		s.start()
	}
	return s.serve()
}
