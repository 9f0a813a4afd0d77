// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api/spool"
)

// interval is when the spool is looked at though nobody has said that there is
// something in it: for entries that could not be carried out, and for a
// directory that was made anew.
const interval = 10 * time.Second

// Run drains the spool whenever something is put into it, until ctx ends. What
// is being carried out is finished before it returns.
func (d *Drain) Run(ctx context.Context) { d.runEvery(ctx, interval) }

func (d *Drain) runEvery(ctx context.Context, interval time.Duration) {
	w, err := newWatch(ctx)
	if err != nil {
		d.log.Warn("spool not watched, only looked at from time to time", slog.Any("error", err))
	}
	defer w.close()
	said := ""
	for ctx.Err() == nil {
		text := ""
		if err := d.look(ctx, w); err != nil {
			text = err.Error()
		}
		if text != "" && text != said && ctx.Err() == nil {
			d.log.Error("spool not drained", slog.String("error", text))
		}
		said = text
		w.wait(ctx, interval)
	}
}

// look is Once, with the directory watched before: nothing can be missed
// between the two.
func (d *Drain) look(ctx context.Context, w *watch) error {
	dir, err := spool.Open(d.path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return errors.Join(w.add(d.path), d.drain(ctx, dir))
}

// watch waits for files that get their names.
type watch struct {
	file *os.File // nil where the kernel has no watch left
	stop func() bool
}

// newWatch returns a watch of nothing yet, which waits until ctx ends at most.
// It is usable also where there is an error.
func newWatch(ctx context.Context) (*watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return &watch{}, os.NewSyscallError("inotify_init1", err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	return &watch{file: f, stop: context.AfterFunc(ctx, func() {
		_ = f.SetReadDeadline(time.Unix(0, 0))
	})}, nil
}

func (w *watch) close() {
	if w.file != nil {
		w.stop()
		_ = w.file.Close()
	}
}

// add watches the directory. Doing it again changes nothing, unless there is
// another directory at the path by now.
func (w *watch) add(path string) error {
	if w.file == nil {
		return nil
	}
	raw, err := w.file.SyscallConn()
	if err != nil {
		return err
	}
	var addErr error
	err = raw.Control(func(fd uintptr) {
		_, addErr = unix.InotifyAddWatch(int(fd), path,
			unix.IN_MOVED_TO|unix.IN_ONLYDIR|unix.IN_DONT_FOLLOW)
	})
	if addErr != nil {
		err = errors.Join(err, &os.PathError{Op: "watch", Path: path, Err: addErr})
	}
	return err
}

// wait returns when a file has got its name since the last time, when the time
// is over, or when ctx ends.
func (w *watch) wait(ctx context.Context, limit time.Duration) {
	if w.file != nil {
		err := w.file.SetReadDeadline(time.Now().Add(limit))
		if ctx.Err() != nil {
			return // and the deadline that its end has set may be overwritten
		}
		if err == nil {
			// What it says does not matter: a look at the directory tells more.
			// There is room for the events of many files, as one look is enough.
			_, err = w.file.Read(make([]byte, 64<<10))
		}
		if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
	}
	select {
	case <-time.After(limit):
	case <-ctx.Done():
	}
}
