// SPDX-License-Identifier: Apache-2.0

// Package ui serves a page that shows what nsqueued does on a node: its pods, their flows,
// and what rules refuse. It only looks.
//
// A page that is open has a feed of its own, with one watch of packets and a few questions
// a second to nsqueued. While no page is open, nsqueued is not asked anything.
package ui

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
)

//go:embed page
var page embed.FS

// maxFeeds is how many pages can be open.
const maxFeeds = 8

// Daemon is what the page asks of nsqueued: an [api.Client].
type Daemon interface {
	Status(ctx context.Context) (api.Status, error)
	List(ctx context.Context) (api.AttachmentList, error)
	Events(ctx context.Context) ([]api.Event, error)
	Names(ctx context.Context, since time.Duration) (api.ObservedNames, error)
	Rules(ctx context.Context) (api.Rules, error)
	RulesOf(ctx context.Context, key api.Key) ([]api.EffectiveRule, error)
	Describe(ctx context.Context, key api.Key) (api.Description, error)
	Watch(ctx context.Context, req api.WatchRequest, ready func(),
		emit func([]api.PacketEvent) error) error
}

// Server serves the page. Make one with [New].
type Server struct {
	daemon Daemon
	token  string
	feeds  chan struct{}
}

// New returns a server with a new token.
func New(d Daemon) *Server {
	return &Server{daemon: d, token: newToken(), feeds: make(chan struct{}, maxFeeds)}
}

// URL is the address of the page where the server listens.
func (s *Server) URL(listen net.Addr) string {
	return "http://" + listen.String() + "/" + s.token + "/"
}

// Serve answers on l until ctx ends, and closes it. Hosts are the names by which browsers
// may ask for the server beside its address and those of this machine alone.
func (s *Server) Serve(ctx context.Context, l net.Listener, hosts ...string) error {
	if host, _, err := net.SplitHostPort(l.Addr().String()); err == nil {
		hosts = append(hosts, host)
	}
	server := &http.Server{
		Handler:           &guard{token: s.token, hosts: hosts, next: s.routes()},
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (s *Server) routes() http.Handler {
	files, err := fs.Sub(page, "page")
	if err != nil {
		panic(err) // the directory is in the program
	}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(files))
	mux.HandleFunc("GET /feed", s.serveFeed)
	mux.HandleFunc("GET /pod", s.servePod)
	mux.HandleFunc("GET /rule", s.serveRule)
	return mux
}

// writeJSON answers with v.
func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // who has gone needs no answer
}

// writeError answers with what went wrong with a question to nsqueued.
func writeError(w http.ResponseWriter, err error) {
	status := http.StatusBadGateway
	switch {
	case errors.Is(err, api.ErrUnavailable):
		status = http.StatusServiceUnavailable
	case api.CodeOf(err) == api.CodeNotAttached:
		status = http.StatusNotFound
	}
	http.Error(w, err.Error(), status)
}
