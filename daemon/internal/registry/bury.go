// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
	"github.com/nsqueue/nsqueue/internal/boottime"
)

// census returns what looks at all processes when it is called first.
func (r *Registry) census() func() *netns.Census {
	return sync.OnceValue(func() *netns.Census { return netns.Take(r.options.PIDNamespace) })
}

// bury detaches what no one has detached although the pod is gone. Our own
// sockets keep the netns and its interfaces alive: what else keeps it must be
// looked for, and where that cannot be seen, the attachment stays.
func (r *Registry) bury(ctx context.Context) {
	records, census := r.records(), r.census()
	doubts := newDoubts()
	for i := range records {
		rec := &records[i]
		if rec.State != api.Active || r.isAt(rec) {
			continue
		}
		found := r.evidence(rec, census())
		switch found.conclude() {
		case undecided:
			doubts.add(rec, r.missing(rec, census()))
		case gone:
			r.buryOne(ctx, rec, &found)
		}
	}
	r.doubt(doubts)
}

func (r *Registry) buryOne(ctx context.Context, rec *state.Record, found *evidence) {
	why := "the node has its netns mounted nowhere, no process is in it"
	if found.link == absent {
		why += ", its interface is gone"
	}
	r.report(slog.LevelWarn, api.EventLostDetach, rec,
		"pod is gone and nothing has detached it: "+why)
	// A new attachment may have taken its place meanwhile.
	req := api.DetachRequest{Key: rec.Key, PodEnded: true}
	if err := r.DetachOlder(ctx, req, rec.Called+1); err != nil {
		r.log(rec).Error("lost detach not made good", slog.Any("error", err))
	}
}

// isAt reports whether the netns is at the path by which it was found. While we
// hold it, the kernel gives its inode to no other.
func (r *Registry) isAt(rec *state.Record) bool {
	for _, path := range netns.Paths(rec.Netns.Path) {
		var st unix.Stat_t
		if unix.Stat(path, &st) == nil && st.Dev == rec.Netns.Dev && st.Ino == rec.Netns.Ino {
			r.see(rec)
			return true
		}
	}
	return false
}

// notAt says what it means that the netns is not at its path. A process's netns
// outlives the process.
func (r *Registry) notAt(rec *state.Record) sight {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen[rec.Netns.Cookie] && !strings.HasPrefix(rec.Netns.Path, "/proc/") {
		return absent
	}
	return unknown
}

// see notes that this process has seen the netns at its path.
func (r *Registry) see(rec *state.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[rec.Netns.Cookie] = true
}

// forgetSeen forgets the netns that nothing is about any more.
func (r *Registry) forgetSeen() {
	r.mu.Lock()
	defer r.mu.Unlock()
	about := make(map[uint64]bool, len(r.attachments)+len(r.pending))
	for _, a := range r.attachments {
		about[a.record.Netns.Cookie] = true
	}
	for _, p := range r.pending {
		about[p.Netns.Cookie] = true
	}
	maps.DeleteFunc(r.seen, func(cookie uint64, _ bool) bool { return !about[cookie] })
}

// evidence looks for what keeps the netns of an attachment, whose path was
// looked at.
func (r *Registry) evidence(rec *state.Record, census *netns.Census) evidence {
	return evidence{
		path: r.notAt(rec), holders: holders(rec, census), link: r.link(rec),
		held: true, age: boottime.Now() - rec.Called,
	}
}

func holders(rec *state.Record, census *netns.Census) sight {
	switch {
	case census.Find(rec.Netns.Dev, rec.Netns.Ino) != "":
		return there
	case census.Hidden != nil:
		return unknown
	}
	return absent
}

// link asks a socket of the netns for the attachment's interface, by its index:
// the pod may change the name.
func (r *Registry) link(rec *state.Record) sight {
	r.mu.Lock()
	b := r.bindings[rec.Netns.Cookie]
	r.mu.Unlock()
	if b == nil || rec.Link == 0 {
		return unknown
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.parts == nil {
		return unknown
	}
	err := b.parts.HasInterface(rec.Link)
	switch {
	case err == nil:
		return there
	case errors.Is(err, unix.ENODEV):
		return absent
	}
	r.log(rec).Warn("interface not looked for", slog.Any("error", err))
	return unknown
}

// missing says why it cannot be told whether a pod lives, and what ends that.
func (r *Registry) missing(rec *state.Record, census *netns.Census) string {
	text := "its netns has no path"
	if path := rec.Netns.Path; path != "" {
		text = "its netns is not at " + path
		if r.notAt(rec) != absent {
			text += ", where it was never seen (in a container, its directory must be mounted " +
				"with propagation HostToContainer)"
		}
	}
	return fmt.Sprintf("%s; %s", text, census.Hidden)
}
