// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/boottime"
	"github.com/nsqueue/nsqueue/internal/spool"
)

// Attach is an ADD that came over the socket. What was spooled about the key
// before is carried out first as far as it ends something, and is then void:
// nerdctl sends DEL before ADD.
func (d *Drain) Attach(
	ctx context.Context, req api.AttachRequest, netns *os.File,
) (api.Attachment, error) {
	unlock, called, err := d.begin(ctx, req.Key)
	if err != nil {
		return api.Attachment{}, err
	}
	defer unlock()
	dir, older := d.older(req.Key, called)
	defer dir.close()
	if older != nil {
		// Whatever the entry is, what was attached before it has ended.
		if err := d.attachments.DetachOlder(ctx, ended(req.Key), older.Called); err != nil {
			d.log.Error("spooled call not carried out", slog.Any("error", err))
		}
	}
	a, err := d.attachments.AttachCalled(ctx, req, netns, called)
	if err == nil {
		d.remove(dir, older)
	}
	return a, err
}

// ended is what a spooled call asks for: only a CNI call is ever spooled.
func ended(key api.Key) api.DetachRequest { return api.DetachRequest{Key: key, PodEnded: true} }

// Detach is a DEL that came over the socket. What was spooled about the key
// before is void.
func (d *Drain) Detach(ctx context.Context, req api.DetachRequest) error {
	unlock, called, err := d.begin(ctx, req.Key)
	if err != nil {
		return err
	}
	defer unlock()
	dir, older := d.older(req.Key, called)
	defer dir.close()
	if err := d.attachments.DetachOlder(ctx, req, called); err != nil {
		return err
	}
	d.remove(dir, older)
	return nil
}

// Settle carries out what is spooled about a key now. A CHECK that follows an
// ADD at once must not come before it. What fails is tried again by Run.
func (d *Drain) Settle(ctx context.Context, key api.Key) {
	dir, err := spool.Open(d.path)
	if err == nil {
		err = errors.Join(d.inTurn(ctx, dir, key), dir.Close())
	}
	if err != nil {
		d.log.Warn("spooled call not carried out", slog.Any("error", err))
	}
}

// begin waits for the key and returns the time of the call. A call that its
// client has given up is not begun: the plugin has spooled it, or somebody has
// been told that it failed, and what was called after it may be done already.
//
// The time is taken before the client is seen to wait. So it is before all that
// is called after this call, and of course after all that was called before.
func (d *Drain) begin(
	ctx context.Context, key api.Key,
) (unlock func(), called time.Duration, err error) {
	unlock, err = d.keys.lock(ctx, key)
	if err != nil {
		return nil, 0, err
	}
	called = boottime.Now()
	if api.Abandoned(ctx) {
		unlock()
		return nil, 0, api.Errorf(api.CodeTryAgainLater, "the client has hung up")
	}
	return unlock, called, nil
}

// openDir is a spool that may not have been possible to open: calls over the
// socket are carried out all the same.
type openDir struct{ *spool.Dir }

func (o openDir) close() {
	if o.Dir != nil {
		_ = o.Close()
	}
}

// older returns the entry of the key that was called before, nil where there is
// none.
func (d *Drain) older(key api.Key, called time.Duration) (openDir, *spool.File) {
	dir, err := spool.Open(d.path)
	if err != nil {
		d.complain(d.path, err)
		return openDir{}, nil
	}
	f := d.read(dir, key)
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
func (d *Drain) remove(dir openDir, f *spool.File) {
	if f == nil {
		return
	}
	if err := dir.Remove(f); err != nil {
		d.log.Error("spooled call not removed", slog.Any("error", err))
	}
}

// keys are the keys that calls are about at the moment. The zero value has
// none.
type keys struct {
	mu   sync.Mutex
	busy map[api.Key]*turn
}

// turn is one key's: who holds it has put an element into it.
type turn struct {
	holder chan struct{}
	users  int // holder and those who wait; guarded by keys.mu
}

// lock waits until nobody else holds the key.
func (k *keys) lock(ctx context.Context, key api.Key) (unlock func(), err error) {
	k.mu.Lock()
	t := k.busy[key]
	if t == nil {
		if k.busy == nil {
			k.busy = make(map[api.Key]*turn)
		}
		t = &turn{holder: make(chan struct{}, 1)}
		k.busy[key] = t
	}
	t.users++
	k.mu.Unlock()
	select {
	case t.holder <- struct{}{}:
		return func() {
			<-t.holder
			k.leave(key, t)
		}, nil
	case <-ctx.Done():
		k.leave(key, t)
		return nil, api.Errorf(api.CodeTryAgainLater, "another call about %s takes its time", key)
	}
}

func (k *keys) leave(key api.Key, t *turn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if t.users--; t.users == 0 {
		delete(k.busy, key)
	}
}
