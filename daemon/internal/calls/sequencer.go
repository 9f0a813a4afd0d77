// SPDX-License-Identifier: Apache-2.0

// Package calls orders the calls about attachments, and replays those that the
// CNI plugin could not deliver.
//
// A call comes over the socket, or the plugin has put it into the spool because
// nsqueued did not answer (see [github.com/nsqueue/nsqueue/internal/spool]). The
// [Sequencer] carries out the calls about one attachment one at a time, whichever
// way they come, and ends an attachment only for a call that began after the one
// that made it. Times are those since boot, at which calls began.
package calls

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/boottime"
	"github.com/nsqueue/nsqueue/internal/spool"
)

// Attachments are what the calls are about.
type Attachments interface {
	// AttachCalled makes the attachment that was called for at a time.
	AttachCalled(ctx context.Context, req api.AttachRequest, netns *os.File,
		called time.Duration) (api.Attachment, error)
	// DetachOlder detaches what was called for before a time; an unknown key is
	// success, and so is a newer attachment.
	DetachOlder(ctx context.Context, req api.DetachRequest, called time.Duration) error
}

// Sequencer orders calls per attachment. It is safe for concurrent use.
type Sequencer struct {
	path        string
	attachments Attachments
	log         *slog.Logger
	keys        keyLocks

	mu sync.Mutex
	// recovered: what earlier processes left half-way has been tidied up.
	recovered bool
	// reported is what was logged of files that stay, by their names.
	reported map[string]string
}

// New returns a sequencer with the spool at a path (see
// [github.com/nsqueue/nsqueue/internal/spool.Path]). It starts nothing.
func New(path string, a Attachments, log *slog.Logger) *Sequencer {
	return &Sequencer{
		path: path, attachments: a, log: log, reported: make(map[string]string),
	}
}

// Attach carries out an ADD that came over the socket. An older entry of the
// spool about the key becomes void: what it would have ended is detached first.
// (nerdctl sends DEL before ADD.)
func (s *Sequencer) Attach(
	ctx context.Context, req api.AttachRequest, netns *os.File,
) (api.Attachment, error) {
	release, called, err := s.acquire(ctx, req.Key)
	if err != nil {
		return api.Attachment{}, err
	}
	defer release()
	dir, older := s.older(req.Key, called)
	defer dir.close()
	if older != nil {
		// Whatever the entry is, what was attached before it has ended.
		if err := s.attachments.DetachOlder(ctx, podEnded(req.Key), older.Called); err != nil {
			s.log.Error("cannot detach what an older spooled call ended; attaching all the same",
				slog.Any("error", err))
		}
	}
	a, err := s.attachments.AttachCalled(ctx, req, netns, called)
	if err == nil {
		s.remove(dir, older)
	}
	return a, err
}

// podEnded is what a spooled call asks for: only a CNI call is ever spooled.
func podEnded(key api.Key) api.DetachRequest {
	return api.DetachRequest{Key: key, PodEnded: true}
}

// Detach carries out a DEL that came over the socket. An older entry of the
// spool about the key becomes void.
func (s *Sequencer) Detach(ctx context.Context, req api.DetachRequest) error {
	release, called, err := s.acquire(ctx, req.Key)
	if err != nil {
		return err
	}
	defer release()
	dir, older := s.older(req.Key, called)
	defer dir.close()
	if err := s.attachments.DetachOlder(ctx, req, called); err != nil {
		return err
	}
	s.remove(dir, older)
	return nil
}

// acquire waits for the key and returns the time of the call. A call that its
// client has given up is not begun: the plugin has spooled it, or has reported
// its failure, and later calls may be done already.
//
// The time is taken before the client is seen to wait. So it is before all that
// is called after this call, and of course after all that was called before.
func (s *Sequencer) acquire(
	ctx context.Context, key api.Key,
) (release func(), called time.Duration, err error) {
	release, err = s.keys.acquire(ctx, key)
	if err != nil {
		return nil, 0, err
	}
	called = boottime.Now()
	if api.Abandoned(ctx) {
		release()
		return nil, 0, api.Errorf(api.CodeTryAgainLater, "the client has hung up")
	}
	return release, called, nil
}

// openDir is a spool, or the zero value where it cannot be opened: calls over
// the socket are carried out all the same.
type openDir struct{ *spool.Dir }

func (o openDir) close() {
	if o.Dir != nil {
		_ = o.Close()
	}
}

// older returns the entry of the key that was called before, nil where there is
// none.
func (s *Sequencer) older(key api.Key, called time.Duration) (openDir, *spool.File) {
	dir, err := spool.Open(s.path)
	if err != nil {
		s.reportOnce(s.path, err)
		return openDir{}, nil
	}
	f := s.read(dir, key)
	if f == nil {
		return openDir{dir}, nil
	}
	bootID, err := boottime.ID()
	if err == nil && f.BootID == bootID && f.Called >= called {
		f = nil
	}
	return openDir{dir}, f
}

// remove removes an entry that is void; nil is none.
func (s *Sequencer) remove(dir openDir, f *spool.File) {
	if f == nil {
		return
	}
	if err := dir.Remove(f); err != nil {
		s.log.Error("cannot remove a void call from the spool; it may be carried out later",
			slog.Any("error", err))
	}
}
