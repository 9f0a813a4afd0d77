// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
	"github.com/nsqueue/nsqueue/internal/boottime"
)

// graveTime is how old an attachment is at least before an empty netns counts
// for a pod that is gone: a runtime makes the netns before its processes.
const graveTime = 30 * time.Second

// bury detaches what nobody has detached although the pod is gone. Two things
// must say so: the netns is not at its path any more, and either its interface
// is gone or no process is in it. Our own sockets keep the netns and its
// interfaces alive, so the interface alone proves nothing.
func (r *Registry) bury(ctx context.Context) {
	for _, rec := range r.records() {
		if rec.State != api.Active || isAt(&rec) {
			continue
		}
		why, err := r.deserted(&rec)
		if err != nil {
			r.log(&rec).Warn("not found out whether the pod lives", slog.Any("error", err))
		}
		if why == "" {
			continue
		}
		r.report(slog.LevelWarn, api.EventLostDetach, &rec,
			"pod is gone and nobody has detached it: netns not at its path, "+why)
		// A new attachment may have taken its place meanwhile.
		req := api.DetachRequest{Key: rec.Key, PodEnded: true}
		if err := r.DetachOlder(ctx, req, rec.Called+1); err != nil {
			r.log(&rec).Error("lost detach not made good", slog.Any("error", err))
		}
	}
}

// isAt reports whether the netns is at the path by which it was found. While we
// hold it, the kernel gives its inode to no other.
func isAt(rec *state.Record) bool {
	var st unix.Stat_t
	return rec.Netns.Path != "" && unix.Stat(rec.Netns.Path, &st) == nil &&
		st.Dev == rec.Netns.Dev && st.Ino == rec.Netns.Ino
}

// deserted returns what else says that the pod is gone; empty for nothing.
func (r *Registry) deserted(rec *state.Record) (string, error) {
	gone, err := r.linkGone(rec)
	if err != nil {
		return "", err
	}
	if gone {
		return "its interface is gone", nil
	}
	if boottime.Now()-rec.Called < graveTime {
		return "", nil
	}
	process, err := netns.ProcessIn(rec.Netns.Dev, rec.Netns.Ino)
	if err != nil || process != "" {
		return "", err
	}
	return "no process is in it", nil
}

// linkGone asks a socket of the netns for the attachment's interface.
func (r *Registry) linkGone(rec *state.Record) (bool, error) {
	r.mu.Lock()
	b := r.bindings[rec.Netns.Cookie]
	r.mu.Unlock()
	if b == nil {
		return false, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.parts == nil {
		return false, nil
	}
	request, err := unix.NewIfreq(rec.Ifname)
	if err != nil {
		return false, err
	}
	err = b.parts.lanes[0].queue.Ioctl(unix.SIOCGIFINDEX, request)
	if errors.Is(err, unix.ENODEV) {
		return true, nil
	}
	return false, os.NewSyscallError("ioctl SIOCGIFINDEX", err)
}
