// SPDX-License-Identifier: Apache-2.0

package conflist

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/internal/atomicfile"
	"github.com/nsqueue/nsqueue/internal/dirwatch"
)

// The events that a watch may wait for.
const (
	// editEvents: a file was written, created, renamed or removed.
	editEvents = unix.IN_CLOSE_WRITE | unix.IN_CREATE | unix.IN_DELETE | unix.IN_DELETE_SELF |
		unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_MOVE_SELF
	// readEvents: a file was opened to read it, and closed again.
	readEvents = unix.IN_CLOSE_NOWRITE
)

// watch waits for events about configurations.
type watch struct {
	*dirwatch.Watch
	// target is the name of the active file where it is a link's target.
	target string
}

func newWatch(ctx context.Context, mask uint32) (*watch, error) {
	w, err := dirwatch.New(ctx, mask)
	return &watch{Watch: w}, err
}

// add watches a directory. One that is missing is not watched.
func (w *watch) add(dir string) error {
	err := w.Add(dir)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// wait returns true at an event about configurations, and false when the limit is
// over or ctx ends.
func (w *watch) wait(ctx context.Context, limit time.Duration) bool {
	return w.Wait(ctx, limit, w.concerns)
}

// concerns reports whether an event is about a configuration or what may lead to
// one, or says that events were lost. Not among them are the temporary files of
// package atomicfile, and programs that list a directory.
func (w *watch) concerns(e dirwatch.Event) bool {
	switch {
	case e.Mask&unix.IN_IGNORED != 0, strings.HasPrefix(e.Name, atomicfile.Prefix):
		return false
	case e.Mask&unix.IN_CLOSE_NOWRITE == 0:
		return true
	case e.Mask&unix.IN_ISDIR != 0:
		return false
	}
	return isConfig(e.Name) || e.Name != "" && e.Name == w.target
}

// ReloadWatch waits for the runtime to read the configurations again.
type ReloadWatch struct{ watch *watch }

// Reload has the runtime read the directory of a plan that was applied. The caller
// waits with what it returns, and closes it.
func (i *Installer) Reload(ctx context.Context, p *Plan) (*ReloadWatch, error) {
	w, err := newWatch(ctx, readEvents)
	if err == nil {
		err = w.add(i.Dir)
	}
	if target, linkErr := filepath.EvalSymlinks(p.Active); p.Active != "" && linkErr == nil {
		w.target = filepath.Base(target)
		err = errors.Join(err, w.add(filepath.Dir(target)))
	}
	if err = errors.Join(err, i.Touch()); err != nil {
		w.Close()
		return nil, err
	}
	return &ReloadWatch{w}, nil
}

// rereadTime is how long a runtime may take from one reading to the next: it may
// have been reading the old configuration when the new one was written.
const rereadTime = 250 * time.Millisecond

// Wait reports whether another program has read a configuration within the limit:
// the runtime gives no other sign. This process must not read any meanwhile.
// containerd reads only while no plugin runs, so that the old chain is no longer in
// use then.
func (r *ReloadWatch) Wait(ctx context.Context, limit time.Duration) bool {
	if !r.watch.wait(ctx, limit) {
		return false
	}
	dirwatch.Pause(ctx, rereadTime)
	return true
}

// Close ends the watch.
func (r *ReloadWatch) Close() { r.watch.Close() }
