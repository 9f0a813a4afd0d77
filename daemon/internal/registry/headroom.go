// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// spareDescriptors stay free besides those of the API's connections, so that
// detaching, checking and the proof work however many pods are attached: a call
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

// headroom refuses to attach what would leave too few descriptors.
type headroom struct {
	mu sync.Mutex
	// promised are those that attaching may still open.
	promised int
}

// reserve promises descriptors for attaching with so many queues, until release
// is called.
func (h *headroom) reserve(queues int) (release func(), err error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return nil, os.NewSyscallError("getrlimit", err)
	}
	need, kept := attachingTakes+queues, spareDescriptors+api.MaxConnections()
	h.mu.Lock()
	defer h.mu.Unlock()
	// Counted under the lock: what another call opened meanwhile is in the count
	// or in its promise, at times in both, and never in neither.
	used, err := openDescriptors()
	if err != nil {
		return nil, err
	}
	used += h.promised
	if uint64(used+need+kept) > limit.Cur {
		return nil, fmt.Errorf("attach one more pod: %d descriptors are in use and %d are kept "+
			"for detaching: %w", used, kept, unix.EMFILE)
	}
	h.promised += need
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.promised -= need
	}, nil
}

// reserve promises what attaching takes. What is attached already takes nothing.
func (r *Registry) reserve(ctx context.Context, key api.Key) (release func(), err error) {
	if r.named(key) != nil {
		return func() {}, nil
	}
	for {
		ended := r.datapaths.Closing() // of what detached pods had
		release, err = r.headroom.reserve(int(max(r.options.Queues, 1)))
		if err == nil {
			return release, nil
		}
		if ended == nil || ctx.Err() != nil {
			break
		}
		select {
		case <-ended:
		case <-ctx.Done():
		}
	}
	err = explainLimit(err)
	r.options.Log.Error("attach refused", slog.String("containerID", key.ContainerID),
		slog.String("ifname", key.Ifname), slog.Any("error", err))
	return nil, err
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

// Descriptors tells how many files are open, and for how many more pods there is
// room.
func (r *Registry) Descriptors() (api.Descriptors, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return api.Descriptors{}, os.NewSyscallError("getrlimit", err)
	}
	used, err := openDescriptors()
	if err != nil {
		return api.Descriptors{}, err
	}
	d := api.Descriptors{Open: used, Limit: limit.Cur}
	queues := int(max(r.options.Queues, 1))
	taken := uint64(used + attachingTakes + queues + spareDescriptors + api.MaxConnections())
	if taken <= limit.Cur {
		const most = 1 << 20 // without a limit
		d.Room = 1 + int(min(most, (limit.Cur-taken)/uint64(keptOpen+queues)))
	}
	return d, nil
}

// isLimit reports whether an error is about too many open files.
func isLimit(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE)
}

// explainLimit adds to an error about too many open files which limit it is
// about and where it is set.
func explainLimit(err error) error {
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
