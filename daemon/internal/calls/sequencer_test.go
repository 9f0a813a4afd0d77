// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
	"github.com/nsqueue/nsqueue/internal/spool"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// nerdctl sends DEL before ADD: what the DEL is about is the past.
func TestAddOverSocketVoidsSpooledCalls(t *testing.T) {
	r := newRig(t)
	key, old, netns := testKey(), apitest.OtherNetns(t), apitest.OtherNetns(t)
	r.spoolDel(key)
	nstest.Must(t, r.add(key, old))
	r.want("ADD after DEL of nothing", key, true, false)

	// The DEL of the last life has not been replayed, and stands in no way.
	r.spoolDel(key)
	nstest.Must(t, r.add(key, netns))
	r.want("ADD of a new life", key, true, false)
	info, err := os.Stat(netns)
	nstest.Must(t, err)
	if a, _ := r.get(key); !os.SameFile(a.netns, info) {
		t.Errorf("attached is the old netns: %+v", a)
	}

	// Nor does the ADD of an earlier life whose DEL was lost.
	r.spoolAdd(key, old)
	nstest.Must(t, r.Detach(t.Context(), api.DetachRequest{Key: key}))
	r.want("DEL", key, false, false)
}

// A call that was spooled while one over the socket was carried out is newer.
func TestCallsOverSocketSpareNewerEntries(t *testing.T) {
	netns := apitest.OtherNetns(t)
	for _, verb := range []spool.Verb{spool.Add, spool.Del} {
		r := newRig(t)
		if verb == spool.Del {
			nstest.Must(t, r.add(testKey(), netns))
		}
		r.hold = func(spool.Verb, api.Key) error {
			r.hold = nil
			r.spoolDel(testKey()) // by a runtime that has run out of patience
			return nil
		}
		if verb == spool.Add {
			nstest.Must(t, r.add(testKey(), netns))
		} else {
			nstest.Must(t, r.Detach(t.Context(), api.DetachRequest{Key: testKey()}))
		}
		r.want("spooled during "+string(verb), testKey(), verb == spool.Add, true)
		nstest.Must(t, r.Replay(t.Context()))
		r.want("after "+string(verb), testKey(), false, false)
	}
}

// A failed ADD leaves what was spooled: under Ignore the pod may have started.
func TestFailedAddKeepsEntry(t *testing.T) {
	r := newRig(t)
	r.spoolAdd(testKey(), apitest.OtherNetns(t))
	no := errors.New("no")
	r.hold = func(verb spool.Verb, _ api.Key) error {
		if verb == spool.Add {
			return no
		}
		return nil
	}
	if err := r.add(testKey(), apitest.OtherNetns(t)); !errors.Is(err, no) {
		t.Errorf("ADD: %v", err)
	}
	r.want("failed ADD", testKey(), false, true)
}

// The replay carries out the DEL when the ADD arrives.
func TestAddWaitsForReplay(t *testing.T) {
	r := newRig(t)
	key, netns := testKey(), apitest.OtherNetns(t)
	nstest.Must(t, r.add(key, netns))
	r.spoolDel(key)
	inHand, goOn := make(chan struct{}), make(chan struct{})
	r.hold = func(verb spool.Verb, _ api.Key) error {
		if verb == spool.Del {
			close(inHand)
			<-goOn
		}
		return nil
	}
	var both sync.WaitGroup
	both.Go(func() {
		if err := r.Replay(t.Context()); err != nil {
			t.Error(err)
		}
	})
	<-inHand
	// Neither does a call wait for ever, nor one about another key at all.
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := r.Detach(short, api.DetachRequest{Key: key}); api.CodeOf(err) != api.CodeTryAgainLater {
		t.Errorf("DEL meanwhile: %v", err)
	}
	nstest.Must(t, r.add(api.Key{ContainerID: "other", Ifname: "eth0"}, netns))
	both.Go(func() {
		if err := r.add(key, netns); err != nil {
			t.Error(err)
		}
	})
	close(goOn)
	both.Wait()
	r.want("both", key, true, false)
}

// Whatever the interleaving, an ADD over the socket that has succeeded is true
// until the DEL that follows it, and that DEL is carried out.
func TestRaces(t *testing.T) {
	const rounds = 100
	r := newRig(t)
	key, netns := testKey(), apitest.OtherNetns(t)
	ctx, cancel := context.WithCancel(t.Context())
	var replays sync.WaitGroup
	for range 2 {
		replays.Go(func() {
			for ctx.Err() == nil {
				if err := r.Replay(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range rounds {
		r.spoolDel(key)
		nstest.Must(t, r.add(key, netns))
		if _, ok := r.get(key); !ok {
			t.Fatal("not attached after ADD")
		}
		nstest.Must(t, r.Replay(t.Context()))
		if _, ok := r.get(key); !ok {
			t.Fatal("the DEL before the ADD has detached it")
		}
	}
	r.spoolDel(key)
	cancel()
	replays.Wait()
	nstest.Must(t, r.Replay(t.Context()))
	r.want("last DEL", key, false, false)
}

// backend is an API whose attachments are the rig's.
type backend struct {
	apitest.Daemon
	*rig
}

func (b *backend) Attach(
	ctx context.Context, req api.AttachRequest, netns *os.File,
) (api.Attachment, error) {
	return b.rig.Attach(ctx, req, netns)
}

func (b *backend) Detach(ctx context.Context, req api.DetachRequest) error {
	return b.rig.Detach(ctx, req)
}

// Calls that their clients have given up are spooled, or their callers know
// that they failed. To carry them out late would undo what was called after them.
func TestAbandonedCalls(t *testing.T) {
	r := newRig(t)
	inHand, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r.hold = func(spool.Verb, api.Key) error {
		once.Do(func() { close(inHand) })
		<-goOn
		return nil
	}
	b := &backend{rig: r}
	socket := apitest.SocketPath(t)
	l, err := api.Listen(socket)
	nstest.Must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- api.Serve(ctx, l, b, slog.New(slog.DiscardHandler)) }()
	key, path := testKey(), apitest.OtherNetns(t)
	netns, err := os.Open(path)
	nstest.Must(t, err)
	defer netns.Close()

	first := make(chan error, 1)
	client := api.NewClient(socket)
	go func() {
		_, err := client.Attach(t.Context(), request(key, path), netns)
		first <- err
	}()
	<-inHand
	short, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if err := client.Detach(short, key); !errors.Is(err, api.ErrUnavailable) {
		t.Errorf("DEL in time: %v", err)
	}
	close(goOn)
	nstest.Must(t, <-first)
	cancel()
	nstest.Must(t, <-served) // all calls have ended
	r.want("ADD, and a DEL that was given up", key, true, false)
}

func TestReplayKey(t *testing.T) {
	r := newRig(t)
	r.ReplayKey(t.Context(), testKey())
	r.spoolAdd(testKey(), apitest.OtherNetns(t))
	other := api.Key{ContainerID: "other", Ifname: "eth0"}
	r.spoolDel(other)
	r.ReplayKey(t.Context(), testKey())
	r.want("replayed", testKey(), true, false)
	r.want("not replayed", other, false, true)
}
