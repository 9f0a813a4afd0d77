// SPDX-License-Identifier: Apache-2.0

package fdstore

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The variables that a supervisor sets. All are systemd's but those that begin with
// NSQUEUE.
const (
	EnvNotifySocket = "NOTIFY_SOCKET"
	EnvListenPID    = "LISTEN_PID"
	EnvListenFDs    = "LISTEN_FDS"
	EnvListenNames  = "LISTEN_FDNAMES"
	EnvWatchdog     = "WATCHDOG_USEC"
	EnvWatchdogPID  = "WATCHDOG_PID"
	// EnvCapacity is how many descriptors the store takes. systemd sets it
	// from version 254 on; for older ones the unit does.
	EnvCapacity = "FDSTORE"
	// EnvSupervisor is the process ID of `nsqueued supervise`.
	EnvSupervisor = "NSQUEUE_SUPERVISOR"
	// EnvRestarts is how often that has started a daemon again.
	EnvRestarts = "NSQUEUE_RESTARTS"
	// EnvLease is a descriptor: the daemon's end of its lease, see package succession.
	EnvLease = "NSQUEUE_LEASE"
	// EnvDescriptors is a descriptor: the socket that stored descriptors will come by.
	EnvDescriptors = "NSQUEUE_DESCRIPTORS"
	// EnvRole is the path of the file that says what the supervisor is to others.
	EnvRole = "NSQUEUE_ROLE"
	// EnvRetirement is the path of the file that has an installation leave the node.
	EnvRetirement = "NSQUEUE_RETIREMENT"
	// EnvInstance is the installation's name, and EnvBegan is when its supervisor began, in
	// nanoseconds since boot.
	EnvInstance = "NSQUEUE_INSTANCE"
	EnvBegan    = "NSQUEUE_BEGAN"
)

// MaxNames is how long the list of names can be for the kernel to still start a
// program with it: a variable has at most 32 pages (MAX_ARG_STRLEN).
const MaxNames = 32*4096 - len(EnvListenNames+"=") - len("\x00")

// pidfdID is set by systemd from version 258 on; nothing here reads it.
const pidfdID = "LISTEN_PIDFDID"

// FirstFD is the first of the descriptors that a process inherits
// (SD_LISTEN_FDS_START).
const FirstFD = 3

// maxInherited is the most descriptors that a process can have open by
// Linux' default (fs.nr_open).
const maxInherited = 1 << 20

// Environment is what [FromEnvironment] reads and cleans.
type Environment struct {
	Getenv   func(string) string
	Unsetenv func(string) error
	// PID is the process' own.
	PID int
	// Getppid returns the process ID that the parent has by now.
	Getppid func() int
}

// ProcessEnvironment is the environment of this process.
func ProcessEnvironment() Environment {
	return Environment{
		Getenv: os.Getenv, Unsetenv: os.Unsetenv, PID: os.Getpid(), Getppid: os.Getppid,
	}
}

// Descriptor is one that was in the store when this process started. Its file
// is the receiver's, which closes it.
type Descriptor struct {
	Name string
	File *os.File
}

// FromEnvironment returns the store that the environment tells of; without one
// it is a store that keeps nothing. It takes over the inherited descriptors,
// so that it is called once, and removes the variables for the sake of child
// processes.
func FromEnvironment(env Environment) (*Store, error) {
	s := &Store{getppid: env.Getppid, stored: make(map[string]int)}
	err := s.read(env)
	for _, name := range []string{
		EnvNotifySocket, EnvListenPID, EnvListenFDs, EnvListenNames, pidfdID,
		EnvWatchdog, EnvWatchdogPID, EnvCapacity, EnvSupervisor, EnvRestarts,
		EnvLease, EnvDescriptors, EnvRole, EnvRetirement, EnvInstance, EnvBegan,
	} {
		if unsetErr := env.Unsetenv(name); unsetErr != nil && err == nil {
			err = fmt.Errorf("unset %s: %w", name, unsetErr)
		}
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Store) read(env Environment) error {
	names, err := inheritedNames(env)
	if err != nil {
		return err
	}
	// Even where the rest is wrong: they must not leak into child processes.
	s.inherited = takeOver(names)
	for _, name := range names {
		s.countLocked(name)
	}
	if err := s.takeChannels(env); err != nil {
		return err
	}
	address := env.Getenv(EnvNotifySocket)
	if address == "" {
		return nil
	}
	if s.watchdog, err = watchdog(env); err != nil {
		return err
	}
	if s.capacity, err = number(env, EnvCapacity, maxInherited); err != nil {
		return err
	}
	if s.supervisor, err = supervisor(env); err != nil {
		return err
	}
	s.notify, err = dial(address)
	return err
}

// countLocked counts one more descriptor that is stored under the name.
func (s *Store) countLocked(name string) {
	s.stored[name]++
	s.total++
	s.length += len(name) + 1
}

// uncountLocked counts n descriptors less that are stored under the name.
func (s *Store) uncountLocked(name string, n int) {
	s.total -= n
	s.length -= n * (len(name) + 1)
	if s.stored[name] -= n; s.stored[name] <= 0 {
		delete(s.stored, name)
	}
}

// inheritedNames returns the names of the descriptors that are meant for this
// process, in their order.
func inheritedNames(env Environment) ([]string, error) {
	if env.Getenv(EnvListenPID) != strconv.Itoa(env.PID) {
		return nil, nil // of a parent, or none
	}
	n, err := number(env, EnvListenFDs, maxInherited)
	if err != nil || n == 0 {
		return nil, err
	}
	names := make([]string, n)
	given := env.Getenv(EnvListenNames)
	if given == "" { // names are optional
		return names, nil
	}
	split := strings.Split(given, ":")
	if len(split) != n {
		return nil, fmt.Errorf("%s has %d names: want %d, as many as %s says",
			EnvListenNames, len(split), n, EnvListenFDs)
	}
	return split, nil
}

func takeOver(names []string) []Descriptor {
	list := make([]Descriptor, len(names))
	for i, name := range names {
		fd := FirstFD + i
		unix.CloseOnExec(fd)
		list[i] = Descriptor{Name: name, File: os.NewFile(uintptr(fd), name)}
	}
	return list
}

func watchdog(env Environment) (time.Duration, error) {
	pid := env.Getenv(EnvWatchdogPID)
	if pid != "" && pid != strconv.Itoa(env.PID) {
		return 0, nil
	}
	const day = int(24 * time.Hour / time.Microsecond)
	us, err := number(env, EnvWatchdog, 365*day)
	return time.Duration(us) * time.Microsecond, err
}

// supervisor returns what listens to the notifications.
func supervisor(env Environment) (Supervisor, error) {
	if env.Getenv(EnvSupervisor) == "" {
		return Supervisor{Kind: Systemd, PID: env.Getppid()}, nil
	}
	pid, err := number(env, EnvSupervisor, 1<<22) // the kernel's PID_MAX_LIMIT
	if err != nil {
		return Supervisor{}, err
	}
	if parent := env.Getppid(); pid != parent {
		return Supervisor{}, fmt.Errorf("%s is %d: the parent of this process is %d",
			EnvSupervisor, pid, parent)
	}
	restarts, err := number(env, EnvRestarts, 1<<31)
	return Supervisor{Kind: Supervise, PID: pid, Restarts: restarts}, err
}

// number returns a variable's value, zero where it is not set.
func number(env Environment, name string, limit int) (int, error) {
	text := env.Getenv(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || n > uint64(limit) {
		return 0, fmt.Errorf("%s is %.64q: want a number up to %d", name, text, limit)
	}
	return int(n), nil
}
