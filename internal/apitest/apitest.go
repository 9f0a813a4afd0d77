// SPDX-License-Identifier: Apache-2.0

// Package apitest has what tests of the daemon's clients need: a daemon that
// inspects nothing, and network namespaces that no privilege is needed for.
// Only tests import it.
package apitest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// Attached is an attach call as it arrived.
type Attached struct {
	api.AttachRequest
	// Netns identifies what came as a descriptor; nil where none came.
	Netns os.FileInfo
}

// Daemon is an [api.Backend] that remembers its calls and answers them from
// its fields. Set the fields before it serves.
type Daemon struct {
	// Attachments is the answer to a list call, Info that to a status call, and
	// Found that to an adopt call.
	Attachments []api.Attachment
	Info        api.Status
	Found       []api.AdoptResult
	// Marked is the answer to a marks call.
	Marked api.MarkReport
	// Described is the answer to a describe call about its key.
	Described []api.Description
	// Happened is the answer to an events call.
	Happened []api.Event
	// Ruled is the answer to calls for rules, RuledBy that for those of an attachment, and
	// Named that for names.
	Ruled   api.Rules
	RuledBy []api.EffectiveRule
	Named   api.ObservedNames
	// Scraped is the answer to a scrape.
	Scraped string
	// Upgraded, where it is set, is the answer to status calls after an upgrade
	// call.
	Upgraded *api.Status
	// Packets are what every watch reports. The watch then stays open, unless
	// WatchEnds is set.
	Packets   []api.PacketEvent
	WatchEnds bool
	// Err, where it is set, is called for each call with its name (such as
	// "attach") and decides its error.
	Err func(call string) error

	mu        sync.Mutex
	attached  []Attached
	calls     []string
	collected []api.CollectRequest
	watched   []api.WatchRequest
}

var _ api.Backend = (*Daemon)(nil)

// Start serves d on a new socket until the test ends and returns its path.
func (d *Daemon) Start(tb testing.TB) string {
	tb.Helper()
	path := SocketPath(tb)
	l, err := api.Listen(path)
	if err != nil {
		tb.Fatal(err)
	}
	d.Serve(tb, l)
	return path
}

// Serve serves d on l until the test ends or the returned function is called.
func (d *Daemon) Serve(tb testing.TB, l *net.UnixListener) (stop func()) {
	tb.Helper()
	return d.serve(tb, func(ctx context.Context) error {
		return api.Serve(ctx, l, d, slog.New(slog.DiscardHandler))
	})
}

// serve runs a server until the test ends or the returned function is called.
func (d *Daemon) serve(tb testing.TB, run func(context.Context) error) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	served := make(chan error, 1)
	go func() { served <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			tb.Errorf("serve: %v", err)
		}
	})
	tb.Cleanup(stop)
	return stop
}

// StartObservers serves those who only look at d, on a new socket, until the
// test ends, and returns its path. A group of an ID that is not negative may
// connect.
func (d *Daemon) StartObservers(tb testing.TB, group int) string {
	tb.Helper()
	path := api.ObserverSocket(SocketPath(tb))
	l, err := api.ListenObservers(path, group)
	if err != nil {
		tb.Fatal(err)
	}
	d.serve(tb, func(ctx context.Context) error {
		return api.ServeObservers(ctx, l, group, d, slog.New(slog.DiscardHandler))
	})
	return path
}

// SocketPath returns a path for a socket, short enough for one.
func SocketPath(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "nsq") //nolint:usetesting // its paths are too long for sockets
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	return filepath.Join(dir, "nsqueued.sock")
}

// Attached returns the attach calls so far.
func (d *Daemon) Attached() []Attached {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.attached)
}

// Calls returns all calls so far, such as "detach ID/eth0".
func (d *Daemon) Calls() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.calls)
}

// Collected returns the collect calls so far.
func (d *Daemon) Collected() []api.CollectRequest {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.collected)
}

// called records a call and returns the error that it is to have.
func (d *Daemon) called(name, about string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if about != "" {
		d.calls = append(d.calls, name+" "+about)
	} else {
		d.calls = append(d.calls, name)
	}
	if d.Err == nil {
		return nil
	}
	return d.Err(name)
}

// Attach records the request and answers with what it says.
func (d *Daemon) Attach(
	_ context.Context, req api.AttachRequest, netns *os.File,
) (api.Attachment, error) {
	a := Attached{AttachRequest: req}
	if netns != nil {
		info, err := netns.Stat()
		if err != nil {
			return api.Attachment{}, err
		}
		a.Netns = info
	}
	d.mu.Lock()
	d.attached = append(d.attached, a)
	d.mu.Unlock()
	return api.Attachment{
		Key: req.Key, Network: req.Network, Origin: req.Origin, Pod: req.Pod,
		Netns: api.Netns{Path: req.NetnsPath}, Hook: "none", State: api.Active,
		FailurePolicy: req.FailurePolicy, Queues: []api.Queue{},
	}, d.called("attach", req.String())
}

// Retire records the call, and has later status calls say so.
func (d *Daemon) Retire(context.Context) (int, error) {
	err := d.called("retire", "")
	d.mu.Lock()
	defer d.mu.Unlock()
	d.Info.Retired = err == nil
	return len(d.Attachments), err
}

// Detach records the call.
func (d *Daemon) Detach(_ context.Context, req api.DetachRequest) error {
	if req.PodEnded {
		return d.called("detach ended", req.String())
	}
	return d.called("detach", req.String())
}

// DetachAll records the call.
func (d *Daemon) DetachAll(context.Context) (int, error) {
	return len(d.Attachments), d.called("detach all", "")
}

// Check records the call.
func (d *Daemon) Check(_ context.Context, key api.Key) error {
	return d.called("check", key.String())
}

// Marks returns d.Marked.
func (d *Daemon) Marks(context.Context) (api.MarkReport, error) {
	return d.Marked, d.called("marks", "")
}

// Collect records the request.
func (d *Daemon) Collect(
	_ context.Context, req api.CollectRequest,
) (api.DetachResult, error) {
	d.mu.Lock()
	d.collected = append(d.collected, req)
	d.mu.Unlock()
	return api.DetachResult{Detached: 1}, d.called("collect", req.Network)
}

// Warn records the call.
func (d *Daemon) Warn(_ context.Context, report api.WarningReport) error {
	return d.called("warn", report.String()+" "+strings.Join(report.Warnings, "; "))
}

// Adopt returns d.Found; a dry run is recorded as "adopt dry".
func (d *Daemon) Adopt(_ context.Context, req api.AdoptRequest) (api.AdoptResults, error) {
	about := ""
	if req.DryRun {
		about = "dry"
	}
	return api.AdoptResults{Results: d.Found}, d.called("adopt", about)
}

// List returns d.Attachments.
func (d *Daemon) List(context.Context) ([]api.Attachment, error) {
	return d.Attachments, d.called("list", "")
}

// Describe returns what of d.Described has the key.
func (d *Daemon) Describe(_ context.Context, key api.Key) (api.Description, error) {
	if err := d.called("describe", key.String()); err != nil {
		return api.Description{}, err
	}
	for _, description := range d.Described {
		if description.Key == key {
			return description, nil
		}
	}
	return api.Description{}, api.Errorf(api.CodeNotAttached, "there is no attachment %s", key)
}

// Status returns d.Info, or d.Upgraded after an upgrade call.
func (d *Daemon) Status(context.Context) (api.Status, error) {
	calls := d.Calls()
	d.mu.Lock()
	info := d.Info
	if d.Upgraded != nil && slices.Contains(calls, "upgrade") {
		info = *d.Upgraded
	}
	d.mu.Unlock()
	return info, d.called("status", "")
}

// Change changes d.Info while d serves, and what d.Err goes by.
func (d *Daemon) Change(change func(*api.Status)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(&d.Info)
}

// SetLogLevel records the call.
func (d *Daemon) SetLogLevel(_ context.Context, level api.LogLevel) error {
	return d.called("log level", string(level))
}

// Metrics writes d.Scraped.
func (d *Daemon) Metrics(w http.ResponseWriter, _ *http.Request) {
	if err := d.called("metrics", ""); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = io.WriteString(w, d.Scraped)
}

// Upgrade records the call.
func (d *Daemon) Upgrade(context.Context) error { return d.called("upgrade", "") }

// errStreamEnds ends a watch.
var errStreamEnds = errors.New("end of stream")

// Events returns d.Happened.
func (d *Daemon) Events(context.Context) ([]api.Event, error) {
	return d.Happened, d.called("events", "")
}

// Watched returns what the watch calls so far were about.
func (d *Daemon) Watched() []api.WatchRequest {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.watched)
}

// Watch records the request and emits d.Packets, whatever it is about.
func (d *Daemon) Watch(
	ctx context.Context, req api.WatchRequest, started func() error,
	emit func([]api.PacketEvent) error,
) error {
	d.mu.Lock()
	d.watched = append(d.watched, req)
	d.mu.Unlock()
	if err := d.called("watch", ""); err != nil {
		return err
	}
	if err := started(); err != nil {
		return err
	}
	for i := range d.Packets {
		if err := emit(d.Packets[i : i+1]); err != nil {
			return err
		}
	}
	if d.WatchEnds {
		return errStreamEnds
	}
	<-ctx.Done()
	return ctx.Err()
}

// Rules answers with the field Ruled.
func (d *Daemon) Rules(context.Context) (api.Rules, error) { return d.Ruled, d.called("rules", "") }

// ReloadRules answers with the field Ruled.
func (d *Daemon) ReloadRules(context.Context) (api.Rules, error) {
	return d.Ruled, d.called("reload rules", "")
}

// RulesOf answers with the field RuledBy.
func (d *Daemon) RulesOf(_ context.Context, key api.Key) ([]api.EffectiveRule, error) {
	return d.RuledBy, d.called("rules of", key.String())
}

// Names answers with the field Named.
func (d *Daemon) Names(_ context.Context, since time.Duration) (api.ObservedNames, error) {
	return d.Named, d.called("names", since.String())
}
