// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// retryWait is how often the installer looks whether what it waits for is there.
const retryWait = 250 * time.Millisecond

// watchLockPath is the file that install --watch locks as long as it runs. Containers of a
// node share the directory of the socket. Directories of other networks have other locks.
func watchLockPath(socket, confDir string) string {
	name := strings.ReplaceAll(strings.Trim(filepath.Clean(confDir), "/"), "/", "-")
	return filepath.Join(filepath.Dir(socket), "install-"+name+".lock")
}

// lockWatch makes this the only install --watch of a directory, until the file is closed:
// two with other settings would undo each other's for ever. It waits for the one that
// runs, if it is told to.
func (c *command) lockWatch(ctx context.Context, f *installFlags) (*os.File, error) {
	path := watchLockPath(c.socket, f.confDir)
	if err := api.MakeSocketDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("lock for --watch: %w", err)
	}
	var file *os.File
	try := func(context.Context) (err error) {
		file, err = takeWatchLock(path)
		return err
	}
	var err error
	if f.waitLock {
		err = c.waitUntil(ctx, "the end of another nsqueuectl install --watch", f.timeout, try)
	} else if err = try(ctx); err != nil {
		err = fmt.Errorf("another nsqueuectl install --watch is running for %s: stop it, or wait "+
			"for its end with --wait-lock (%w)", f.confDir, err)
	}
	if err != nil {
		return nil, err
	}
	tellHolder(file)
	return file, nil
}

// takeWatchLock locks the file. An error that passes says who has it, or that it was
// removed meanwhile.
func takeWatchLock(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, &endWait{fmt.Errorf("lock for --watch: %w", err)}
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		err = fmt.Errorf("%s has %s", lockHolder(file), path)
	case err != nil:
		err = &endWait{&os.PathError{Op: "lock", Path: path, Err: err}}
	case !isAt(path, file):
		err = fmt.Errorf("%s was removed", path)
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

// isAt reports whether the file at a path is this one.
func isAt(path string, file *os.File) bool {
	own, err := file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(own, there)
}

// maxHolder is more than what a holder says of itself.
const maxHolder = 200

// lockHolder says who has the lock.
func lockHolder(file *os.File) string {
	b := make([]byte, maxHolder)
	n, err := file.ReadAt(b, 0)
	text, _, _ := strings.Cut(string(b[:n]), "\n")
	if text == "" || err != nil && !errors.Is(err, io.EOF) {
		return "another process"
	}
	return text
}

// tellHolder writes for others who has the lock. Where that fails, they learn less.
func tellHolder(file *os.File) {
	_ = file.Truncate(0)
	_, _ = file.WriteAt(fmt.Appendf(nil, "nsqueuectl %s (process %d)\n", api.Version(),
		os.Getpid()), 0)
}

// awaitServing returns when the daemon of the supervisor with a runtime directory is the
// one of the node, and ready. A new plugin must not meet the daemon before it.
func (c *command) awaitServing(ctx context.Context, runtimeDir string, limit time.Duration) error {
	return c.waitUntil(ctx, "nsqueued to be ready", limit, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		s, err := api.AskSupervisor(ctx, runtimeDir)
		switch {
		case err != nil:
			return err
		case s.Retired:
			return errRetired
		case s.Role == api.RoleStandby:
			return errors.New("its supervisor stands by: the daemon of another one serves")
		case !s.Serves():
			return s.Ready()
		}
		return nil
	})
}

// endWait is an error for which there is no use in waiting.
type endWait struct{ error }

func (e *endWait) Unwrap() error { return e.error }

// waitUntil calls try until it succeeds, and tells meanwhile why it does not. A limit of 0
// is none.
func (c *command) waitUntil(ctx context.Context, what string, limit time.Duration,
	try func(context.Context) error,
) error {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	var next time.Time
	tick := time.NewTicker(retryWait)
	defer tick.Stop()
	for {
		err := try(ctx)
		if end, ok := errors.AsType[*endWait](err); ok {
			return end.error
		}
		if err == nil {
			return nil
		}
		if now := time.Now(); now.After(next) {
			next = now.Add(5 * c.progressAfter)
			fmt.Fprintf(c.err, "waiting for %s: %v\n", what, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited for %s, in vain: %w (%w)", what, err, ctx.Err())
		case <-tick.C:
		}
	}
}
