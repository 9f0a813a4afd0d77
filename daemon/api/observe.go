// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Observed is what can be asked of a daemon without changing anything.
type Observed interface {
	// List returns all attachments, ordered by key.
	List(ctx context.Context) ([]Attachment, error)
	// Describe returns all that is known of an attachment.
	Describe(ctx context.Context, key Key) (Description, error)
	// Status describes the daemon.
	Status(ctx context.Context) (Status, error)
	// Events returns what happened of late, the oldest first.
	Events(ctx context.Context) ([]Event, error)
	// Watch calls started once, then emit for the packets from that moment on that
	// the request is about, some at a time, until ctx ends or one of them returns an
	// error. The packets are emit's until it returns.
	Watch(ctx context.Context, req WatchRequest, started func() error,
		emit func([]PacketEvent) error) error
	// Rules returns the rules in force.
	Rules(ctx context.Context) (Rules, error)
	// RulesOf returns those that concern an attachment, in the order in which they are
	// asked.
	RulesOf(ctx context.Context, key Key) ([]EffectiveRule, error)
	// Names returns the names that pods asked for within a time until now, 0 for all that
	// are remembered.
	Names(ctx context.Context, since time.Duration) (ObservedNames, error)
	// Metrics answers a scrape in a format that Prometheus reads.
	Metrics(w http.ResponseWriter, r *http.Request)
}

// observerLimits are those of clients that only look. What they can make the
// server hold is in addition to what the others can, so that there is less of it.
// A daemon that stops, while packets wait, does not wait for them.
func observerLimits() limits {
	l := defaultLimits()
	l.conns, l.large, l.watches = 64, 2, 8
	l.stop = 2 * l.grace
	return l
}

// ServeObservers answers calls that change nothing, as [Serve] does: of root, of the daemon's
// own user, and of the members of a group, unless its ID is negative. Its connections and
// calls are bounded apart from those of Serve: however many come, they take no room from
// there.
func ServeObservers(
	ctx context.Context, l *net.UnixListener, group int, o Observed, log *slog.Logger,
) error {
	limits := observerLimits()
	conns := newConnLimit(limits.conns, limits.silence)
	listener := newFDListener(l, conns, log)
	listener.group = group
	h := observerHandler(ctx, o, log, limits)
	return serveHTTP(ctx, listener, conns, h, log, limits)
}

// ServeMetrics answers scrapes on l and nothing else, bounded as
// [ServeObservers] is.
func ServeMetrics(ctx context.Context, l net.Listener, o Observed, log *slog.Logger) error {
	limits := observerLimits()
	conns := newConnLimit(limits.conns, limits.silence)
	s := newServer(ctx, o, log, limits)
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathMetrics, s.metrics())
	return serveHTTP(ctx, newBoundedListener(l, conns), conns, mux, log, limits)
}

func newServer(stopping context.Context, o Observed, log *slog.Logger, limits limits) *server {
	return &server{
		observed: o, log: log, stopping: stopping, limits: limits,
		lists:    make(chan struct{}, limits.large),
		collects: make(chan struct{}, limits.large),
		watches:  make(chan struct{}, limits.watches),
	}
}

// observe adds the calls that change nothing.
func (s *server) observe(mux *http.ServeMux) {
	mux.HandleFunc("GET "+pathAttachments, inTurn(s.lists, s.answer(s.list)))
	mux.HandleFunc("GET "+pathAttachments+"/{id}/{ifname}",
		inTurn(s.lists, s.answer(s.describe)))
	mux.HandleFunc("GET "+pathStatus, s.answer(func(r *http.Request) (any, error) {
		return s.observed.Status(r.Context())
	}))
	mux.HandleFunc("GET "+pathEvents, inTurn(s.lists, s.answer(
		func(r *http.Request) (any, error) {
			events, err := s.observed.Events(r.Context())
			return EventList{Events: append([]Event{}, events...)}, err
		})))
	s.observeRules(mux)
	mux.HandleFunc("GET "+pathWatch, s.watch)
	mux.HandleFunc("GET "+pathMetrics, s.metrics())
}

// observerHandler returns the part of the HTTP interface that changes nothing.
// It says so of the rest.
func observerHandler(
	stopping context.Context, o Observed, log *slog.Logger, limits limits,
) http.Handler {
	s := newServer(stopping, o, log, limits)
	s.observersOnly = true
	mux := http.NewServeMux()
	s.observe(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.writeError(w, r, Errorf(CodeReadOnly,
			"%s %.100s is not served on the observers' socket: it lists, describes, tells status, "+
				"events and metrics, and watches; root has the other socket", r.Method, r.URL.Path))
	})
	return s.guardDescriptors(http.MaxBytesHandler(mux, maxBody))
}

// metrics returns the handler of scrapes, which are answers that may be large.
func (s *server) metrics() http.HandlerFunc {
	return inTurn(s.lists, func(w http.ResponseWriter, r *http.Request) {
		deadline := time.Now().Add(s.limits.answer)
		_ = http.NewResponseController(w).SetWriteDeadline(deadline)
		s.observed.Metrics(w, r)
	})
}

func (s *server) list(r *http.Request) (any, error) {
	list, err := s.observed.List(r.Context())
	if list == nil {
		list = []Attachment{} // JSON has [] then, not null
	}
	return AttachmentList{Attachments: list}, err
}
