// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
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
	quiet = 200 * time.Millisecond
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
			w.Wait(ctx, poll, func(dirwatch.Event) bool { return true })
			dirwatch.Pause(ctx, quiet)
			continue
		}
		if err := p.reload(ctx); err != nil && ctx.Err() == nil {
			p.config.Log.Error("cannot reload rules", slog.Any("error", err))
		}
	}
}

// watchDirectories adds those of the files by now. One that cannot be watched is polled.
func (p *Policy) watchDirectories(w *dirwatch.Watch) {
	for _, dir := range directoriesOf(p.config.Directory, p.inForce()) {
		if err := w.Add(dir); err != nil {
			p.config.Log.Debug("cannot watch a directory", slog.Any("error", err))
		}
	}
}

// directoriesOf returns the directory of rules, and those of files that their sets name.
func directoriesOf(dir string, r *rules.Rules) []string {
	dirs := []string{dir}
	if r != nil {
		for _, file := range r.Files() {
			dirs = append(dirs, filepath.Dir(file))
		}
	}
	return dirs
}

// changed reports whether files are others than those that were read last.
func (p *Policy) changed() bool {
	p.mu.Lock()
	seen, r := p.seen, p.rules
	p.mu.Unlock()
	return fingerprintOf(p.config.Directory, r) != seen
}

// fingerprint tells one state of files from another.
type fingerprint [sha256.Size]byte

// fingerprintOf goes by what the kernel says of the files, their contents are not read.
func fingerprintOf(dir string, r *rules.Rules) fingerprint {
	h := sha256.New()
	files, _ := filepath.Glob(filepath.Join(dir, "*.y*ml"))
	if r != nil {
		files = append(files, r.Files()...)
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			fmt.Fprintf(h, "%q missing\n", file)
			continue
		}
		inode := uint64(0)
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			inode = stat.Ino
		}
		fmt.Fprintf(h, "%q %d %s %d\n", file, info.Size(), info.ModTime(), inode)
	}
	return fingerprint(h.Sum(nil))
}
