// SPDX-License-Identifier: Apache-2.0

// Package spool carries out the calls that the CNI plugin could not deliver,
// and orders them with the calls that come over the socket.
//
// Calls about one attachment are carried out one at a time, whichever way they
// come, and an attachment is ended only by a call that began after the one that
// made it. Times are those since boot, at which calls began.
package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/fault"
	"github.com/nsqueue/nsqueue/internal/boottime"
	"github.com/nsqueue/nsqueue/internal/spool"
)

// Attachments are what the calls are about.
type Attachments interface {
	// AttachCalled makes the attachment that was called for at a time.
	AttachCalled(ctx context.Context, req api.AttachRequest, netns *os.File,
		called time.Duration) (api.Attachment, error)
	// DetachOlder ends an attachment that was called for before a time; an
	// unknown key is success, and so is a newer attachment.
	DetachOlder(ctx context.Context, req api.DetachRequest, called time.Duration) error
}

// workers is how many entries are carried out at a time. Detaching waits for
// the kernel most of the time.
const workers = 8

// Drain is the daemon's end of a spool. It is safe for concurrent use.
type Drain struct {
	path        string
	attachments Attachments
	log         *slog.Logger
	keys        keys

	mu sync.Mutex
	// recovered: what earlier processes left half-way has been tidied up.
	recovered bool
	// complaints are what was logged of files that stay.
	complaints map[string]string
}

// NewDrain returns the drain of the spool at a path (see
// [github.com/nsqueue/nsqueue/internal/spool.Path]). It starts nothing.
func NewDrain(path string, a Attachments, log *slog.Logger) *Drain {
	return &Drain{
		path: path, attachments: a, log: log, complaints: make(map[string]string),
	}
}

// Once carries out everything that is spooled, a few entries at a time, and
// returns when that is done. The error joins what is wrong with each of those
// that could not be carried out; they stay for the next time. Files that are no
// entries of ours are logged once and stay, too.
func (d *Drain) Once(ctx context.Context) error {
	dir, err := spool.Open(d.path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return d.drain(ctx, dir)
}

// Count returns how many calls wait to be carried out.
func (d *Drain) Count() (int, error) {
	dir, err := spool.Open(d.path)
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	keys, _, err := dir.List()
	return len(keys), err
}

func (d *Drain) drain(ctx context.Context, dir *spool.Dir) error {
	if err := d.recover(dir); err != nil {
		return err
	}
	found, strange, err := dir.List()
	if err != nil {
		return err
	}
	for _, name := range strange {
		d.complain(name, errors.New("it is no entry of the spool"))
	}
	return d.each(ctx, dir, found)
}

// each carries out the entries of keys. All that it starts has ended when it
// returns.
func (d *Drain) each(ctx context.Context, dir *spool.Dir, found []api.Key) error {
	todo := make(chan api.Key, len(found))
	for _, key := range found {
		todo <- key
	}
	close(todo)
	var mu sync.Mutex
	var errs []error
	var all sync.WaitGroup
	for range min(workers, len(found)) {
		all.Go(func() {
			for key := range todo {
				if err := d.inTurn(ctx, dir, key); err != nil {
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
func (d *Drain) recover(dir *spool.Dir) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.recovered {
		return nil
	}
	err := dir.Recover()
	d.recovered = err == nil
	return err
}

// inTurn carries out the entry of a key when no other call is about it.
func (d *Drain) inTurn(ctx context.Context, dir *spool.Dir, key api.Key) error {
	unlock, err := d.keys.lock(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()
	if err := d.settle(ctx, dir, key); err != nil {
		return fmt.Errorf("spooled call about %s: %w", key, err)
	}
	return nil
}

// settle carries out the entry of a key, if there is one, and then removes it.
// The caller holds the key's lock.
func (d *Drain) settle(ctx context.Context, dir *spool.Dir, key api.Key) error {
	f := d.read(dir, key)
	if f == nil {
		return nil
	}
	if err := d.carryOut(ctx, f); err != nil {
		return err
	}
	fault.At(fault.SpoolCarriedOut)
	return dir.Remove(f)
}

// read returns the entry of a key; nil where there is none that can be read.
func (d *Drain) read(dir *spool.Dir, key api.Key) *spool.File {
	f, err := dir.Read(key)
	switch {
	case err == nil:
		return f
	case !errors.Is(err, fs.ErrNotExist):
		d.complain(key.String(), err)
	}
	return nil
}

func (d *Drain) carryOut(ctx context.Context, f *spool.File) error {
	log := d.log.With(slog.String("verb", string(f.Verb)),
		slog.String("containerID", f.ContainerID), slog.String("ifname", f.Ifname),
		slog.Time("called", f.Time))
	bootID, err := boottime.ID()
	switch {
	case err != nil:
		return err
	case f.BootID != bootID:
		log.Info("spooled call of an earlier boot dropped")
		return nil
	case f.Verb == spool.Add:
		return d.adopt(ctx, f, log)
	}
	if err := d.attachments.DetachOlder(ctx, ended(f.Key), f.Called); err != nil {
		return err
	}
	log.Info("spooled call carried out")
	return nil
}

// adopt attaches a pod that has started without us, if it is still there. What
// no time heals is logged and forgotten: the pod runs, and nobody waits for an
// answer.
func (d *Drain) adopt(ctx context.Context, f *spool.File, log *slog.Logger) error {
	netns, err := openNetns(f.Attach.NetnsPath, f.Netns)
	if err != nil {
		return err
	}
	if netns == nil {
		log.Info("spooled call dropped: the netns is gone",
			slog.String("netns", f.Attach.NetnsPath))
		return nil
	}
	defer netns.Close()
	err = d.attach(ctx, f, netns)
	switch api.CodeOf(err) {
	case api.CodeInvalidNetns, api.CodeInvalidConfig, api.CodeConflict:
		log.Error("spooled call dropped: the pod stays without inspection", slog.Any("error", err))
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
func (d *Drain) attach(ctx context.Context, f *spool.File, netns *os.File) error {
	_, err := d.attachments.AttachCalled(ctx, *f.Attach, netns, f.Called)
	if api.CodeOf(err) != api.CodeConflict {
		return err
	}
	if err := d.attachments.DetachOlder(ctx, ended(f.Key), f.Called); err != nil {
		return err
	}
	_, err = d.attachments.AttachCalled(ctx, *f.Attach, netns, f.Called)
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

// complain logs what is wrong with a file that stays, once.
func (d *Drain) complain(name string, err error) {
	text := err.Error()
	d.mu.Lock()
	known := d.complaints[name] == text
	if len(d.complaints) >= spool.MaxFiles {
		clear(d.complaints)
	}
	d.complaints[name] = text
	d.mu.Unlock()
	if !known {
		d.log.Error("file left in the spool", slog.String("file", name), slog.Any("error", err))
	}
}
