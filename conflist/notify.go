// SPDX-License-Identifier: Apache-2.0

package conflist

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/conflist/atomicfile"
)

// What a watch may wait for.
const (
	// edited: a file got another content, or a name, or lost it.
	edited = unix.IN_CLOSE_WRITE | unix.IN_CREATE | unix.IN_DELETE | unix.IN_DELETE_SELF |
		unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_MOVE_SELF
	// readBySomebody: a file was opened, and is closed again.
	readBySomebody = unix.IN_CLOSE_NOWRITE
)

// watch waits for what happens to files in directories.
type watch struct {
	file *os.File // nil where the kernel has no watch left
	stop func() bool
	mask uint32
	// target is the name of the active file where it is a link's target.
	target string
}

// newWatch returns a watch of nothing yet, which waits until ctx ends at most.
// It is usable also where there is an error: then it waits by the clock alone.
func newWatch(ctx context.Context, mask uint32) (*watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return &watch{}, os.NewSyscallError("inotify_init1", err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	return &watch{file: f, mask: mask, stop: context.AfterFunc(ctx, func() {
		_ = f.SetReadDeadline(time.Unix(0, 0))
	})}, nil
}

func (w *watch) close() {
	if w.file != nil {
		w.stop()
		_ = w.file.Close()
	}
}

// add watches a directory. Doing it again changes nothing, unless there is
// another directory at the path by now. One that is missing is not watched.
func (w *watch) add(dir string) error {
	if w.file == nil {
		return nil
	}
	raw, err := w.file.SyscallConn()
	if err != nil {
		return err
	}
	var addErr error
	err = raw.Control(func(fd uintptr) {
		_, addErr = unix.InotifyAddWatch(int(fd), dir, w.mask|unix.IN_ONLYDIR)
	})
	if addErr != nil && !errors.Is(addErr, unix.ENOENT) {
		err = errors.Join(err, &os.PathError{Op: "watch", Path: dir, Err: addErr})
	}
	return err
}

// wait returns true when something has happened since the last time that
// concerns the configurations, false when the limit is over or ctx ends.
func (w *watch) wait(ctx context.Context, limit time.Duration) bool {
	if w.file == nil {
		pause(ctx, limit)
		return false
	}
	if w.file.SetReadDeadline(time.Now().Add(limit)) != nil {
		pause(ctx, limit)
		return false
	}
	events := make([]byte, 64<<10)
	// The end of ctx sets a deadline as well; the one above may have replaced it.
	for ctx.Err() == nil {
		n, err := w.file.Read(events)
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				pause(ctx, limit)
			}
			return false
		}
		if w.concerns(events[:n]) {
			return true
		}
	}
	return false
}

// pause waits by the clock.
func pause(ctx context.Context, limit time.Duration) {
	select {
	case <-time.After(limit):
	case <-ctx.Done():
	}
}

// concerns says whether one of the kernel's events is about a configuration, or
// about what may lead to one, or about events that were lost. The files that
// package atomicfile is writing are not, and neither is who lists a directory.
func (w *watch) concerns(events []byte) bool {
	for len(events) >= unix.SizeofInotifyEvent {
		mask := binary.NativeEndian.Uint32(events[4:])
		length := uint64(binary.NativeEndian.Uint32(events[12:]))
		events = events[unix.SizeofInotifyEvent:]
		raw := events[:min(length, uint64(len(events)))]
		events = events[len(raw):]
		name := string(bytes.TrimRight(raw, "\x00"))
		switch {
		case mask&unix.IN_IGNORED != 0, strings.HasPrefix(name, atomicfile.Prefix):
		case mask&unix.IN_CLOSE_NOWRITE == 0:
			return true
		case mask&unix.IN_ISDIR == 0 && (isConfig(name) || name != "" && name == w.target):
			return true
		}
	}
	return false
}

// ReloadWatch tells when the runtime has read the configurations again.
type ReloadWatch struct{ watch *watch }

// Reload has the runtime read the directory of a plan that was carried out, and
// returns how to wait for it. The caller closes what it gets.
func (i *Installer) Reload(ctx context.Context, p *Plan) (*ReloadWatch, error) {
	w, err := newWatch(ctx, readBySomebody)
	if err == nil {
		err = w.add(i.Dir)
	}
	if target, linkErr := filepath.EvalSymlinks(p.Active); p.Active != "" && linkErr == nil {
		w.target = filepath.Base(target)
		err = errors.Join(err, w.add(filepath.Dir(target)))
	}
	if err = errors.Join(err, i.Touch()); err != nil {
		w.close()
		return nil, err
	}
	return &ReloadWatch{w}, nil
}

// inTwo is how long a runtime may take from one reading to the next: it may have
// been reading the old configuration when this one was written.
const inTwo = 250 * time.Millisecond

// Wait returns whether somebody has read a configuration within the limit. From
// nothing else does one learn what the runtime does; this process must not read
// any meanwhile. containerd reads while no call of a plugin is on, so that the
// old chain is not in use any more then.
func (r *ReloadWatch) Wait(ctx context.Context, limit time.Duration) bool {
	if !r.watch.wait(ctx, limit) {
		return false
	}
	pause(ctx, inTwo)
	return true
}

// Close ends the watch.
func (r *ReloadWatch) Close() { r.watch.close() }
