// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"syscall"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/fault"
	"github.com/nsqueue/nsqueue/internal/boottime"
	"github.com/nsqueue/nsqueue/internal/spool"
)

// replayers is how many entries are replayed at a time. Detaching waits for the
// kernel most of the time.
const replayers = 8

// Replay carries out everything that is spooled, a few entries at a time, and
// returns when that is done. The error joins what is wrong with each of those
// that could not be carried out; they stay for the next time. Files that are no
// entries of ours are logged once and stay, too.
func (s *Sequencer) Replay(ctx context.Context) error {
	dir, err := spool.Open(s.path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return s.replay(ctx, dir)
}

// ReplayKey carries out what is spooled about a key now. A CHECK that follows an
// ADD at once must not come before it. What fails is tried again by Run.
func (s *Sequencer) ReplayKey(ctx context.Context, key api.Key) {
	dir, err := spool.Open(s.path)
	if err == nil {
		err = errors.Join(s.replayKey(ctx, dir, key), dir.Close())
	}
	if err != nil {
		s.log.Warn("cannot carry out a spooled call; trying again later", slog.Any("error", err))
	}
}

// Count returns how many calls wait in the spool.
func (s *Sequencer) Count() (int, error) {
	dir, err := spool.Open(s.path)
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	keys, _, err := dir.List()
	return len(keys), err
}

func (s *Sequencer) replay(ctx context.Context, dir *spool.Dir) error {
	if err := s.recover(dir); err != nil {
		return err
	}
	found, strange, err := dir.List()
	if err != nil {
		return err
	}
	for _, name := range strange {
		s.reportOnce(name, errors.New("its name is not that of a spooled call"))
	}
	return s.replayEach(ctx, dir, found)
}

// replayEach carries out the entries of keys. All that it starts has ended when
// it returns.
func (s *Sequencer) replayEach(ctx context.Context, dir *spool.Dir, found []api.Key) error {
	todo := make(chan api.Key, len(found))
	for _, key := range found {
		todo <- key
	}
	close(todo)
	var mu sync.Mutex
	var errs []error
	var all sync.WaitGroup
	for range min(replayers, len(found)) {
		all.Go(func() {
			for key := range todo {
				if err := s.replayKey(ctx, dir, key); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// recover tidies up once, before anything is removed.
func (s *Sequencer) recover(dir *spool.Dir) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.recovered {
		return nil
	}
	err := dir.Recover()
	s.recovered = err == nil
	return err
}

// replayKey carries out the entry of a key when no other call is about it.
func (s *Sequencer) replayKey(ctx context.Context, dir *spool.Dir, key api.Key) error {
	release, err := s.keys.acquire(ctx, key)
	if err != nil {
		return err
	}
	defer release()
	if err := s.replayLocked(ctx, dir, key); err != nil {
		return fmt.Errorf("spooled call about %s: %w", key, err)
	}
	return nil
}

// replayLocked carries out the entry of a key, if there is one, and then removes
// it. The caller holds the key's lock.
func (s *Sequencer) replayLocked(ctx context.Context, dir *spool.Dir, key api.Key) error {
	f := s.read(dir, key)
	if f == nil {
		return nil
	}
	if err := s.carryOut(ctx, f); err != nil {
		return err
	}
	fault.At(fault.SpoolCarriedOut)
	return dir.Remove(f)
}

// read returns the entry of a key; nil where there is none that can be read.
func (s *Sequencer) read(dir *spool.Dir, key api.Key) *spool.File {
	f, err := dir.Read(key)
	switch {
	case err == nil:
		return f
	case !errors.Is(err, fs.ErrNotExist):
		s.reportOnce(key.String(), err)
	}
	return nil
}

func (s *Sequencer) carryOut(ctx context.Context, f *spool.File) error {
	log := s.log.With(slog.String("verb", string(f.Verb)),
		slog.String("containerID", f.ContainerID), slog.String("ifname", f.Ifname),
		slog.Time("called", f.Time))
	bootID, err := boottime.ID()
	switch {
	case err != nil:
		return err
	case f.BootID != bootID:
		log.Info("spooled call removed: it is from before the reboot")
		return nil
	case f.Verb == spool.Add:
		return s.carryOutAdd(ctx, f, log)
	}
	if err := s.attachments.DetachOlder(ctx, podEnded(f.Key), f.Called); err != nil {
		return err
	}
	log.Info("spooled call carried out")
	return nil
}

// carryOutAdd attaches a pod that has started uninspected, if it is still there.
// An error that no later try can mend is logged, and the entry is removed: the
// pod runs, and no caller waits for an answer.
func (s *Sequencer) carryOutAdd(ctx context.Context, f *spool.File, log *slog.Logger) error {
	netns, err := openNetns(f.Attach.NetnsPath, f.Netns)
	if err != nil {
		return err
	}
	if netns == nil {
		log.Info("spooled call removed: the pod is gone",
			slog.String("netns", f.Attach.NetnsPath))
		return nil
	}
	defer netns.Close()
	err = s.attach(ctx, f, netns)
	switch api.CodeOf(err) {
	case api.CodeInvalidNetns, api.CodeInvalidConfig, api.CodeConflict:
		log.Error("spooled call removed: it can never succeed, and the pod stays uninspected",
			slog.Any("error", err))
		return nil
	}
	if err == nil {
		log.Info("spooled call carried out")
	}
	return err
}

// attach makes the attachment. One that was called for before and differs is
// of the container's last life: the DEL between the two was spooled as well, and
// the ADD has taken its place.
func (s *Sequencer) attach(ctx context.Context, f *spool.File, netns *os.File) error {
	_, err := s.attachments.AttachCalled(ctx, *f.Attach, netns, f.Called)
	if api.CodeOf(err) != api.CodeConflict {
		return err
	}
	if err := s.attachments.DetachOlder(ctx, podEnded(f.Key), f.Called); err != nil {
		return err
	}
	_, err = s.attachments.AttachCalled(ctx, *f.Attach, netns, f.Called)
	return err
}

// openNetns opens the path if the same netns is still there, else it returns
// nil. The kernel gives an inode that is open to no other netns.
func openNetns(path string, want *spool.Netns) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR),
		errors.Is(err, syscall.ESRCH): // a path below /proc
		return nil, nil
	case err != nil:
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Dev != want.Dev || st.Ino != want.Ino {
		return nil, f.Close()
	}
	return f, nil
}

// reportOnce logs what is wrong with a file that stays, once.
func (s *Sequencer) reportOnce(name string, err error) {
	text := err.Error()
	s.mu.Lock()
	known := s.reported[name] == text
	if len(s.reported) >= spool.MaxFiles {
		clear(s.reported)
	}
	s.reported[name] = text
	s.mu.Unlock()
	if !known {
		s.log.Error("cannot use a file of the spool; it is left as it is",
			slog.String("file", name), slog.Any("error", err))
	}
}
