// SPDX-License-Identifier: Apache-2.0

// Package dirwatch waits until something happens to the files of directories.
package dirwatch

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/internal/fdcontrol"
)

// Watch waits for the kernel's inotify events. It is not for concurrent use.
type Watch struct {
	file *os.File // nil where the kernel has no watch left
	stop func() bool
	mask uint32
}

// New returns a watch of nothing yet for the events in mask, which waits until
// ctx ends at most. It is usable also where there is an error: then it waits by
// the clock alone.
func New(ctx context.Context, mask uint32) (*Watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return &Watch{}, os.NewSyscallError("inotify_init1", err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	return &Watch{file: f, mask: mask, stop: context.AfterFunc(ctx, func() {
		_ = f.SetReadDeadline(time.Unix(0, 0))
	})}, nil
}

// Close ends the watch.
func (w *Watch) Close() {
	if w.file != nil {
		w.stop()
		_ = w.file.Close()
	}
}

// Add watches a directory. Doing it again changes nothing, unless there is
// another directory at the path by now.
func (w *Watch) Add(dir string) error {
	if w.file == nil {
		return nil
	}
	return fdcontrol.Do(w.file, func(fd int) error {
		_, err := unix.InotifyAddWatch(fd, dir, w.mask|unix.IN_ONLYDIR)
		if err != nil {
			return &os.PathError{Op: "watch", Path: dir, Err: err}
		}
		return nil
	})
}

// Wait returns true when something has happened since the last time that
// concerns says to be waited for, false when the limit is over or ctx ends.
// concerns gets the kernel's events, several at once.
func (w *Watch) Wait(
	ctx context.Context, limit time.Duration, concerns func(events []byte) bool,
) bool {
	if w.file == nil || w.file.SetReadDeadline(time.Now().Add(limit)) != nil {
		Pause(ctx, limit)
		return false
	}
	events := make([]byte, 64<<10)
	// The end of ctx sets a deadline as well; the one above may have replaced it.
	for ctx.Err() == nil {
		n, err := w.file.Read(events)
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				Pause(ctx, limit)
			}
			return false
		}
		if concerns(events[:n]) {
			return true
		}
	}
	return false
}

// Pause waits by the clock, until ctx ends at most.
func Pause(ctx context.Context, limit time.Duration) {
	select {
	case <-time.After(limit):
	case <-ctx.Done():
	}
}
