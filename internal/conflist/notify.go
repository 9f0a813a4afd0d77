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

// What a watch may wait for.
const (
	// edited: a file got another content, or a name, or lost it.
	edited = unix.IN_CLOSE_WRITE | unix.IN_CREATE | unix.IN_DELETE | unix.IN_DELETE_SELF |
		unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_MOVE_SELF
	// readBySomebody: a file was opened, and is closed again.
	readBySomebody = unix.IN_CLOSE_NOWRITE
)

// watch waits for what happens to configurations.
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

// wait returns true when something has happened since the last time that
// concerns the configurations, false when the limit is over or ctx ends.
func (w *watch) wait(ctx context.Context, limit time.Duration) bool {
	return w.Wait(ctx, limit, w.concerns)
}

// concerns says whether an event is about a configuration, or about what may lead
// to one, or about events that were lost. Events of the temporary files of package
// atomicfile do not concern it, and neither do those of a program that lists a
// directory.
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
		w.Close()
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
	dirwatch.Pause(ctx, inTwo)
	return true
}

// Close ends the watch.
func (r *ReloadWatch) Close() { r.watch.Close() }
