// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"
)

// Backend does what the calls ask for. Its methods are called concurrently.
// An error that is an [*Error] reaches the client as it is; any other is
// reported as internal.
type Backend interface {
	Observed

	// Attach returns once no packet of the netns passes uninspected. The file is the
	// netns, nil where the client passed none; it stays the caller's.
	Attach(ctx context.Context, req AttachRequest, netns *os.File) (Attachment, error)
	// Detach removes one attachment; an unknown key is success.
	Detach(ctx context.Context, req DetachRequest) error
	// DetachAll removes every attachment and returns how many there were.
	DetachAll(ctx context.Context) (int, error)
	// Retire removes every attachment, makes no more from then on, and returns how many
	// there were.
	Retire(ctx context.Context) (int, error)
	// Check verifies that the attachment's hook and reader are really there.
	Check(ctx context.Context, key Key) error
	// Marks looks for what others in the attachments' netns do with the bits of
	// the packet mark that the inspector may set.
	Marks(ctx context.Context) (MarkReport, error)
	// Collect detaches what a CNI GC call no longer names.
	Collect(ctx context.Context, req CollectRequest) (DetachResult, error)
	// Warn makes an event of what is wrong with a pod that is not attached.
	Warn(ctx context.Context, report WarningReport) error
	// Adopt looks for pods that are not attached and attaches them, unless the
	// request says not to. What becomes of each of them is in the results.
	Adopt(ctx context.Context, req AdoptRequest) (AdoptResults, error)
	// Upgrade asks the supervisor for it, and returns at once.
	Upgrade(ctx context.Context) error
	// ReloadRules reads the rules again. Where the answer has errors, nothing has changed.
	ReloadRules(ctx context.Context) (Rules, error)
	// SetLogLevel changes what is logged from now on.
	SetLogLevel(ctx context.Context, level LogLevel) error
}

// Bounds of a request's body. The largest honest one is a GC call: 1,000
// attachments take 100 KiB. An attach call has less than 2 KiB.
const (
	maxBody       = 1 << 20
	maxAttachBody = 128 << 10 // JSON writes a byte of an annotation as six at most
)

// limits bound what clients can keep the server waiting for, and what they can
// make it hold. A client that is slower is broken.
type limits struct {
	header time.Duration // from the connection to the end of the headers
	body   time.Duration // from the connection to the end of the body
	idle   time.Duration // between two requests
	answer time.Duration // for taking the answer
	grace  time.Duration // for a request or a last event when the server stops

	// stop is how long calls in progress may go on when the server stops; zero is
	// as long as they take.
	stop time.Duration

	conns   int           // connections at a time
	silence time.Duration // after which one gives way to a new one
	large   int           // requests and answers at a time that may be large
	watches int           // each keeps events for a slow client, 1.5 MiB
}

// maxConnections is more than a node's runtimes open together.
const maxConnections = 512

// MaxConnections is how many connections a server has at a time: a quarter of
// the descriptors that this process may open, so that its work has the others,
// and no more than 512.
func MaxConnections() int {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return maxConnections
	}
	return int(max(1, min(maxConnections, limit.Cur/4)))
}

func defaultLimits() limits {
	return limits{
		header:  5 * time.Second,
		body:    10 * time.Second,
		idle:    time.Minute,
		answer:  10 * time.Second,
		grace:   250 * time.Millisecond,
		conns:   MaxConnections(),
		silence: time.Second,
		large:   8,
		watches: 32,
	}
}

// Serve answers calls on l with b until ctx ends, then waits for the calls in
// progress (watches end at once) and returns nil. The listener is closed.
func Serve(ctx context.Context, l *net.UnixListener, b Backend, log *slog.Logger) error {
	return serve(ctx, l, b, log, defaultLimits())
}

func serve(
	ctx context.Context, l *net.UnixListener, b Backend, log *slog.Logger, limits limits,
) error {
	conns := newConnLimit(limits.conns, limits.silence)
	listener := newFDListener(l, conns, log)
	return serveHTTP(ctx, listener, conns, handler(ctx, b, log, limits), log, limits)
}

// serveHTTP answers calls on l, whose connections conns bounds, with h.
func serveHTTP(
	ctx context.Context, l net.Listener, conns *connLimit, h http.Handler, log *slog.Logger,
	limits limits,
) error {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: limits.header,
		ReadTimeout:       limits.body,
		IdleTimeout:       limits.idle,
		MaxHeaderBytes:    16 << 10,
		ConnContext:       connContext,
		ConnState:         conns.track,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		defer time.AfterFunc(limits.grace, conns.stop).Stop()
		stopped <- shutDown(context.WithoutCancel(ctx), srv, limits.stop)
	})
	err := srv.Serve(l)
	if stop() {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return <-stopped
}

// shutDown ends a server when its calls have ended, or after a limit.
func shutDown(ctx context.Context, srv *http.Server, limit time.Duration) error {
	if limit == 0 {
		return srv.Shutdown(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := srv.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return srv.Close()
}

// server holds what the handlers share.
type server struct {
	observed Observed
	log      *slog.Logger
	stopping context.Context
	limits   limits
	// observersOnly: the clients may only look.
	observersOnly bool

	// Each holds one element for each call of its kind that is in progress.
	lists, collects, watches chan struct{}
}

// handler returns the HTTP interface over b. When stopping ends, watches do;
// other calls run to their end.
func handler(
	stopping context.Context, b Backend, log *slog.Logger, limits limits,
) http.Handler {
	s := newServer(stopping, b, log, limits)
	attach := s.answer(func(r *http.Request) (any, error) { return s.attach(r, b) })
	collect := s.answer(func(r *http.Request) (any, error) { return s.collect(r, b) })
	adopt := s.answer(func(r *http.Request) (any, error) { return s.adopt(r, b) })
	mux := http.NewServeMux()
	mux.Handle("POST "+pathWarnings, http.MaxBytesHandler(s.answer(warn(b)), maxAttachBody))
	mux.Handle("POST "+pathAttachments, http.MaxBytesHandler(attach, maxAttachBody))
	mux.HandleFunc("DELETE "+pathAttachments, s.answer(func(r *http.Request) (any, error) {
		n, err := b.DetachAll(r.Context())
		return DetachResult{Detached: n}, err
	}))
	mux.HandleFunc("POST "+pathRetire, s.answer(func(r *http.Request) (any, error) {
		n, err := b.Retire(r.Context())
		return DetachResult{Detached: n}, err
	}))
	mux.HandleFunc("DELETE "+pathAttachments+"/{id}/{ifname}", s.answer(detach(b)))
	mux.HandleFunc("GET "+pathAttachments+"/{id}/{ifname}/check", s.answer(withKey(b.Check)))
	mux.HandleFunc("GET "+pathMarks, inTurn(s.collects, s.answer(marks(b))))
	mux.HandleFunc("POST "+pathCollect, inTurn(s.collects, collect))
	mux.HandleFunc("POST "+pathAdopt, inTurn(s.collects, adopt))
	mux.HandleFunc("POST "+pathUpgrade, s.answer(func(r *http.Request) (any, error) {
		return struct{}{}, b.Upgrade(r.Context())
	}))
	mux.HandleFunc("POST "+pathRules+"/reload", inTurn(s.collects, s.answer(
		func(r *http.Request) (any, error) { return b.ReloadRules(r.Context()) })))
	mux.HandleFunc("PUT "+pathLogLevel, s.answer(func(r *http.Request) (any, error) {
		return setLogLevel(r, b)
	}))
	s.observe(mux)
	return s.guardDescriptors(http.MaxBytesHandler(mux, maxBody))
}

// inTurn lets no more calls through at a time than turns has room for. A call
// holds its turn until its answer is taken.
func inTurn(turns chan struct{}, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case turns <- struct{}{}:
			defer func() { <-turns }()
			next(w, r)
		case <-r.Context().Done(): // the client is gone
		}
	}
}

// guardDescriptors refuses descriptors where none belong, before the call that
// they came with is looked at.
func (s *server) guardDescriptors(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := checkDescriptors(r); err != nil {
			s.writeError(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// checkDescriptors says whether the descriptors that have arrived so far may
// come with this call. They may also arrive with the body, so that it is
// called again when the body has been read.
func checkDescriptors(r *http.Request) error {
	c := fdConnOf(r.Context())
	if c == nil {
		return nil
	}
	n, lost := c.arrived()
	switch {
	case lost:
		return Errorf(CodeTryAgainLater,
			"receive descriptor: the daemon could not open it (is its file limit reached?)")
	case n > 0 && (r.Method != http.MethodPost || r.URL.Path != pathAttachments):
		return Errorf(CodeUnsupportedField,
			"a descriptor came with %s %s: only an attach call takes one", r.Method, r.URL.Path)
	case n > 1:
		return Errorf(CodeUnsupportedField,
			"%d descriptors came with one call: want the netns alone", n)
	}
	return nil
}

func (s *server) attach(r *http.Request, b Backend) (any, error) {
	var req AttachRequest
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	if err := req.Validate(); err != nil {
		return nil, Errorf(CodeInvalidConfig, "%s", err)
	}
	var netns *os.File
	if c := fdConnOf(r.Context()); c != nil {
		netns = c.take()
	}
	if netns != nil {
		defer netns.Close()
	}
	req.Limit()
	return b.Attach(r.Context(), req, netns)
}

func warn(b Backend) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		var report WarningReport
		if err := decode(r, &report); err != nil {
			return nil, err
		}
		if err := report.Key.Validate(); err != nil {
			return nil, Errorf(CodeInvalidConfig, "%s", err)
		}
		report.Warnings = LimitWarnings(report.Warnings)
		return struct{}{}, b.Warn(r.Context(), report)
	}
}

func (s *server) adopt(r *http.Request, b Backend) (any, error) {
	var req AdoptRequest
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	found, err := b.Adopt(r.Context(), req)
	if found.Results == nil {
		found.Results = []AdoptResult{} // as in list
	}
	return found, err
}

func (s *server) collect(r *http.Request, b Backend) (any, error) {
	var req CollectRequest
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	return b.Collect(r.Context(), req)
}

// answer turns a call into a handler that writes its result or its error.
func (s *server) answer(call func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		result, err := call(r)
		if err != nil {
			s.writeError(w, r, err)
			return
		}
		s.writeJSON(w, r, http.StatusOK, result)
	}
}

// detach reads a DetachRequest from the address. What is not "true" is the
// lossless way, as it is for a client that does not know the parameter.
func detach(b Backend) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		key, err := keyOf(r)
		if err != nil {
			return nil, err
		}
		ended := r.URL.Query().Get(paramPodEnded) == "true"
		return struct{}{}, b.Detach(r.Context(), DetachRequest{Key: key, PodEnded: ended})
	}
}

// withKey turns a call about one attachment into one about a request.
func withKey(call func(context.Context, Key) error) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		key, err := keyOf(r)
		if err != nil {
			return nil, err
		}
		return struct{}{}, call(r.Context(), key)
	}
}

// decode reads the one JSON value of the request's body. Unknown fields are
// errors: a misspelt policy must not pass for a default.
func decode(r *http.Request, into any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return Errorf(CodeDecoding, "request body is larger than %d bytes", tooLarge.Limit)
		}
		return Errorf(CodeDecoding, "decode request body: %s", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Errorf(CodeDecoding, "decode request body: data after the JSON value")
	}
	return checkDescriptors(r)
}

func (s *server) writeError(w http.ResponseWriter, r *http.Request, err error) {
	e := asError(err)
	s.writeJSON(w, r, e.Code.httpStatus(), e)
}

func (s *server) writeJSON(w http.ResponseWriter, r *http.Request, status int, v any) {
	if c := fdConnOf(r.Context()); c != nil {
		if n, lost := c.arrived(); n > 0 || lost {
			// No later request may find the descriptor.
			w.Header().Set("Connection", "close")
		}
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.limits.answer))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// Where the client is gone, there is nothing left to tell.
	_ = json.NewEncoder(w).Encode(v)
}
