// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// spareDescriptors stay free besides those of the API's connections, so that
// detaching, checking and verifying work however many pods are attached: a call
// opens six at most (netns twice, queue statistics, state file, spool twice),
// so that ten may do so at the same moment.
const spareDescriptors = 64

// keptOpen is how many descriptors an attachment keeps besides those of its
// queues: the netns and the table.
const keptOpen = 2

// attachingTakes is how many descriptors attaching opens besides one for each
// queue: the netns and the table stay open; the netns twice more, a socket to
// identify it, statistics and the state file for a moment.
const attachingTakes = 7

// fdLimit refuses to attach what would leave too few descriptors.
type fdLimit struct {
	mu sync.Mutex
	// promised are those that attaching may still open.
	promised int
}

// reserve promises descriptors for attaching with so many queues, until release
// is called.
func (l *fdLimit) reserve(queues int) (release func(), err error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return nil, os.NewSyscallError("getrlimit", err)
	}
	need, kept := attachingTakes+queues, spareDescriptors+api.MaxConnections()
	l.mu.Lock()
	defer l.mu.Unlock()
	// Counted under the lock: what another call opened meanwhile is in the count
	// or in its promise, at times in both, and never in neither.
	used, err := openDescriptors()
	if err != nil {
		return nil, err
	}
	used += l.promised
	if uint64(used+need+kept) > limit.Cur {
		return nil, fmt.Errorf("attach one more pod: %d descriptors are in use and %d are "+
			"reserved for detaching: %w", used, kept, unix.EMFILE)
	}
	l.promised += need
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.promised -= need
	}, nil
}

// openDescriptors returns how many this process has open.
func openDescriptors() (int, error) {
	const dir = "/proc/self/fd"
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	if st.Size > 0 { // since Linux 6.2
		return int(st.Size), nil
	}
	entries, err := os.ReadDir(dir)
	return len(entries), err
}

// descriptors tells how many files are open, and for how many more pods with so many
// queues there is room.
func descriptors(queues int) (api.Descriptors, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return api.Descriptors{}, os.NewSyscallError("getrlimit", err)
	}
	used, err := openDescriptors()
	if err != nil {
		return api.Descriptors{}, err
	}
	d := api.Descriptors{Open: used, Limit: limit.Cur}
	taken := uint64(used + attachingTakes + queues + spareDescriptors + api.MaxConnections())
	if taken <= limit.Cur {
		const most = 1 << 20 // without a limit
		d.Room = 1 + int(min(most, (limit.Cur-taken)/uint64(keptOpen+queues)))
	}
	return d, nil
}

// queueFDs is how many descriptors an attachment keeps for queues, its own and those of
// programs.
func (r *Registry) queueFDs() int {
	return int(max(r.options.Queues, 1)) + r.options.ProgramFDs
}

// isFDLimit reports whether an error is about too many open files.
func isFDLimit(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE)
}

// explainFDLimit adds to an error about too many open files which limit it is
// about and where it is set.
func explainFDLimit(err error) error {
	switch {
	case errors.Is(err, unix.ENFILE):
		return fmt.Errorf("%w: the node's limit (sysctl fs.file-max)", err)
	case !errors.Is(err, unix.EMFILE):
		return err
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return err
	}
	return fmt.Errorf("%w: this process may open %d (LimitNOFILE= of the unit, ulimit -n)",
		err, limit.Cur)
}
