// SPDX-License-Identifier: Apache-2.0

// Package dirwatch waits for events about the files of directories: it owns the
// kernel's inotify descriptor, and reads its events.
package dirwatch

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/internal/fdcontrol"
)

// Watch waits for events. It is not for concurrent use.
type Watch struct {
	file *os.File // nil where inotify is not available
	stop func() bool
	mask uint32
}

// New returns a watch for the inotify events in mask (IN_...). It watches no
// directory yet, and its Wait ends when ctx does. The watch is usable also after
// an error: then Wait returns when its limit is over.
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

// Wait returns true at the first event that matches, of those since the last Wait,
// and false when the limit is over or ctx ends.
func (w *Watch) Wait(
	ctx context.Context, limit time.Duration, matches func(Event) bool,
) bool {
	if w.file == nil || w.file.SetReadDeadline(time.Now().Add(limit)) != nil {
		Pause(ctx, limit)
		return false
	}
	buffer := make([]byte, 64<<10)
	// The end of ctx sets a deadline as well; the one above may have replaced it.
	for ctx.Err() == nil {
		n, err := w.file.Read(buffer)
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				Pause(ctx, limit)
			}
			return false
		}
		for event := range events(buffer[:n]) {
			if matches(event) {
				return true
			}
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
