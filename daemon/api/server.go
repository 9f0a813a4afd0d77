// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Backend does what the calls ask for. Its methods are called concurrently.
// An error that is an [*Error] reaches the client as it is; any other is
// reported as internal.
type Backend interface {
	// Attach returns once no packet of the netns goes unseen. The file is the
	// netns, nil where the client passed none; it stays the caller's.
	Attach(ctx context.Context, req AttachRequest, netns *os.File) (Attachment, error)
	// Detach removes one attachment; an unknown key is success.
	Detach(ctx context.Context, key Key) error
	// DetachAll removes every attachment and returns how many there were.
	DetachAll(ctx context.Context) (int, error)
	// Check verifies that the attachment's hook and reader are really there.
	Check(ctx context.Context, key Key) error
	// Collect detaches what a CNI GC call no longer names.
	Collect(ctx context.Context, req CollectRequest) (DetachResult, error)
	// List returns all attachments, ordered by key.
	List(ctx context.Context) ([]Attachment, error)
	// Status describes the daemon.
	Status(ctx context.Context) (Status, error)
	// Watch calls emit for each packet from now on, until ctx ends or emit
	// returns an error.
	Watch(ctx context.Context, emit func(*PacketEvent) error) error
}

// maxBody bounds a request's body. The largest honest one is a GC call: 1,000
// attachments take 100 KiB.
const maxBody = 1 << 20

// Timeouts of the server side. A client that is slower than these is broken.
const (
	headerTimeout = 5 * time.Second
	bodyTimeout   = 10 * time.Second
	idleTimeout   = time.Minute
)

// Listen makes the socket at path, readable and writable by the owner only,
// from the first moment on. The directory is made with mode 0711. A socket
// file that nobody serves is replaced; one that is served is an error.
func Listen(path string) (*net.UnixListener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return nil, err
	}
	addr := &net.UnixAddr{Name: path, Net: "unix"}
	l, err := listenPrivate(addr)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return l, err
	}
	if c, dialErr := net.DialUnix("unix", nil, addr); dialErr == nil {
		_ = c.Close()
		return nil, err
	}
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	return listenPrivate(addr)
}

// listenPrivate listens under a umask that leaves no moment in which others
// could connect. The umask belongs to the process, so call it at start-up.
func listenPrivate(addr *net.UnixAddr) (*net.UnixListener, error) {
	defer syscall.Umask(syscall.Umask(0o177))
	return net.ListenUnix("unix", addr)
}

// Serve answers calls on l with b until ctx ends, then waits for the calls in
// progress (watches end at once) and returns nil. The listener is closed.
func Serve(ctx context.Context, l *net.UnixListener, b Backend, log *slog.Logger) error {
	srv := &http.Server{
		Handler:           handler(ctx, b, log),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       bodyTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    16 << 10,
		ConnContext:       connContext,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		stopped <- srv.Shutdown(context.WithoutCancel(ctx))
	})
	err := srv.Serve(&fdListener{UnixListener: l, refused: func(uid uint32) {
		log.Warn("connection refused", slog.Uint64("uid", uint64(uid)))
	}})
	if stop() {
		return err
	}
	return <-stopped
}

// server holds what the handlers share.
type server struct {
	backend  Backend
	log      *slog.Logger
	stopping context.Context
}

// handler returns the HTTP interface over b. When stopping ends, watches do;
// other calls run to their end.
func handler(stopping context.Context, b Backend, log *slog.Logger) http.Handler {
	s := &server{backend: b, log: log, stopping: stopping}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+pathAttachments, s.attach)
	mux.HandleFunc("GET "+pathAttachments, answer(func(r *http.Request) (any, error) {
		list, err := b.List(r.Context())
		return AttachmentList{Attachments: list}, err
	}))
	mux.HandleFunc("DELETE "+pathAttachments, answer(func(r *http.Request) (any, error) {
		n, err := b.DetachAll(r.Context())
		return DetachResult{Detached: n}, err
	}))
	mux.HandleFunc("DELETE "+pathAttachments+"/{id}/{ifname}", withKey(b.Detach))
	mux.HandleFunc("GET "+pathAttachments+"/{id}/{ifname}/check", withKey(b.Check))
	mux.HandleFunc("POST "+pathCollect, answer(func(r *http.Request) (any, error) {
		var req CollectRequest
		if err := decode(r, &req); err != nil {
			return nil, err
		}
		return b.Collect(r.Context(), req)
	}))
	mux.HandleFunc("GET "+pathStatus, answer(func(r *http.Request) (any, error) {
		return b.Status(r.Context())
	}))
	mux.HandleFunc("GET "+pathWatch, s.watch)
	return guardDescriptors(http.MaxBytesHandler(mux, maxBody))
}

// guardDescriptors refuses descriptors where none belong, and ends a
// connection that has carried one, so that no later request can find it.
func guardDescriptors(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := fdConnOf(r.Context())
		if c == nil || c.count() == 0 {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Connection", "close")
		switch isAttach := r.Method == http.MethodPost && r.URL.Path == pathAttachments; {
		case !isAttach:
			fail(w, Errorf(CodeUnsupportedField, "a descriptor came with %s %s: only an attach call takes one",
				r.Method, r.URL.Path))
		case c.count() > 1:
			fail(w, Errorf(CodeUnsupportedField, "%d descriptors came with one call: want the netns alone",
				c.count()))
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (s *server) attach(w http.ResponseWriter, r *http.Request) {
	answer(func(r *http.Request) (any, error) {
		var req AttachRequest
		if err := decode(r, &req); err != nil {
			return nil, err
		}
		if err := req.Validate(); err != nil {
			return nil, Errorf(CodeInvalidConfig, "%s", err)
		}
		var netns *os.File
		if c := fdConnOf(r.Context()); c != nil {
			if c.count() > 1 {
				return nil, Errorf(CodeUnsupportedField, "%d descriptors came with one call: want the netns alone",
					c.count())
			}
			netns = c.take()
		}
		if netns != nil {
			defer netns.Close()
		}
		for _, warning := range req.Warnings {
			s.log.Warn("client warning", slog.String("containerID", req.ContainerID),
				slog.String("pod", req.Pod.String()), slog.String("warning", warning))
		}
		return s.backend.Attach(r.Context(), req, netns)
	})(w, r)
}

// watch streams one JSON object a line. The first flush tells the client that
// packets are being reported from now on.
func (s *server) watch(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.stopping, cancel)()

	rc := http.NewResponseController(w)
	// The server's limit is for reading a request, this stream has none.
	_ = rc.SetReadDeadline(time.Time{})
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	if err := rc.Flush(); err != nil {
		return
	}
	enc := json.NewEncoder(w)
	// The status line is out: an error can only end the stream.
	_ = s.backend.Watch(ctx, func(e *PacketEvent) error {
		if err := enc.Encode(e); err != nil {
			return err
		}
		return rc.Flush()
	})
}

// answer turns a call into a handler that writes its result or its error.
func answer(call func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		result, err := call(r)
		if err != nil {
			fail(w, err)
			return
		}
		writeJSON(w, http.StatusOK, result)
	}
}

// withKey turns a call about one attachment into a handler.
func withKey(call func(context.Context, Key) error) http.HandlerFunc {
	return answer(func(r *http.Request) (any, error) {
		key := Key{ContainerID: r.PathValue("id"), Ifname: r.PathValue("ifname")}
		if err := key.Validate(); err != nil {
			return nil, Errorf(CodeInvalidConfig, "%s", err)
		}
		return struct{}{}, call(r.Context(), key)
	})
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
	return nil
}

func fail(w http.ResponseWriter, err error) {
	e := asError(err)
	writeJSON(w, e.Code.httpStatus(), e)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// A client that is gone has nobody to tell.
	_ = json.NewEncoder(w).Encode(v)
}
