// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/rules"
	"github.com/nsqueue/nsqueue/internal/dirwatch"
)

const (
	edits = unix.IN_CLOSE_WRITE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO |
		unix.IN_CREATE
	// poll is for file systems that tell of no edits.
	poll = 30 * time.Second
	// quiet is how long files must be left alone before they are read: who writes one
	// often writes several.
	quiet    = 200 * time.Millisecond
	patience = 5 * time.Second
	// tick is how often flows that wait for too long are looked for.
	tick = 50 * time.Millisecond
)

// Run follows the files and the clock until ctx ends.
func (p *Policy) Run(ctx context.Context) {
	var workers sync.WaitGroup
	workers.Go(func() { p.tick(ctx) })
	workers.Go(func() { p.follow(ctx) })
	workers.Wait()
}

func (p *Policy) tick(ctx context.Context) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			p.inspector.Tick()
			p.events.refusals.deliver(p.reportsTo())
		}
	}
}

// follow reads the rules again when files have changed.
func (p *Policy) follow(ctx context.Context) {
	w, err := dirwatch.New(ctx, edits)
	if err != nil {
		p.config.Log.Warn("cannot watch files of rules; looking at them every 30 s",
			slog.Any("error", err))
	}
	defer w.Close()
	for ctx.Err() == nil {
		p.watchDirectories(w)
		if !p.changed() {
			w.Wait(ctx, poll, anything)
			continue
		}
		settle(ctx, w)
		if err := p.reload(); err != nil && ctx.Err() == nil {
			p.config.Log.Error("cannot reload rules", slog.Any("error", err))
			dirwatch.Pause(ctx, poll)
		}
	}
}

func anything(dirwatch.Event) bool { return true }

// settle waits until files are left alone, for a while at most.
func settle(ctx context.Context, w *dirwatch.Watch) {
	for range patience / quiet {
		if !w.Wait(ctx, quiet, anything) {
			return
		}
	}
}

// watchDirectories adds those of the files by now. One that cannot be watched is polled.
func (p *Policy) watchDirectories(w *dirwatch.Watch) {
	for _, dir := range p.directories() {
		err := w.Add(dir)
		for errors.Is(err, fs.ErrNotExist) && dir != "/" { // somebody may make it again
			dir = filepath.Dir(dir)
			err = w.Add(dir)
		}
		if err != nil {
			p.config.Log.Debug("cannot watch a directory", slog.Any("error", err))
		}
	}
}

// directories returns those of the rules, and those of files that their sets name.
func (p *Policy) directories() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	dirs := slices.Clone(p.config.Directories)
	for file := range p.seen {
		dirs = append(dirs, filepath.Dir(file))
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// changed reports whether files are others than those that were read last.
func (p *Policy) changed() bool {
	p.mu.Lock()
	seen := p.seen
	p.mu.Unlock()
	return seen.isOld(p.config.Directories)
}

// reading is what the kernel said of each file just before it was read. It is not changed
// after the last file.
type reading map[string]string

// noting returns what reads a file, also one that is not there, and notes its state.
func (r reading) noting(read func(string) ([]byte, error)) func(string) ([]byte, error) {
	return func(path string) ([]byte, error) {
		r[path] = stateOf(path)
		return read(path)
	}
}

// isOld reports whether a file has changed, or another one is in the directories.
func (r reading) isOld(dirs []string) bool {
	for _, dir := range dirs {
		files, _ := rules.FilesIn(dir)
		for _, file := range files {
			if _, ok := r[file]; !ok {
				return true
			}
		}
	}
	for file, state := range r {
		if stateOf(file) != state {
			return true
		}
	}
	return false
}

// stateOf tells one state of a file from another.
func stateOf(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return "missing"
	}
	inode := uint64(0)
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = stat.Ino
	}
	return fmt.Sprint(inode, info.Size(), info.ModTime())
}
