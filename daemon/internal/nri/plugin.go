// SPDX-License-Identifier: Apache-2.0

package nri

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/internal/dirwatch"
)

// DefaultSocket is where runtimes listen for plugins.
const DefaultSocket = "/var/run/nri/nri.sock"

// The name by which runtimes know the plugin, and its place among others. Several may have
// the same.
const (
	name  = "nsqueue"
	place = "50"
)

// Handler is told of pods. Calls about different pods may come at the same time.
type Handler interface {
	// Synchronize tells of all pods there are, each time that the plugin is connected. No
	// pod starts before it returns.
	Synchronize(pods []Pod)
	// Run tells of a pod whose network is ready, and none of whose containers runs before
	// it returns. The runtime does not wait for long, though: see [State].Late.
	Run(pod Pod)
	// Removed tells that a pod is no more.
	Removed(id string)
}

// State is how the plugin and the runtime get along.
type State struct {
	Connected bool
	// Since is when that began.
	Since time.Time
	// Runtime and Version are the last one's that the plugin was connected to.
	Runtime, Version string
	// Problem is why the plugin is not connected.
	Problem string
	// Connections is how often the plugin was connected, and Pods how many pods it was
	// told of when they started. Late are those whose start did not wait for the handler.
	Connections, Pods, Late uint64
}

// Plugin keeps a connection to the runtime.
type Plugin struct {
	socket  string
	handler Handler
	log     *slog.Logger
	// working are calls of the handler.
	working sync.WaitGroup

	mu    sync.Mutex
	state State
}

// New returns a plugin that is not connected. The handler is called until Run returns.
func New(socket string, h Handler, log *slog.Logger) *Plugin {
	return &Plugin{socket: socket, handler: h, log: log, state: State{Since: time.Now().UTC()}}
}

// State returns that of the moment.
func (p *Plugin) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// The times between two attempts to connect. A socket that appears is tried at once.
const (
	soon    = 20 * time.Millisecond
	atLeast = time.Second
)

// Run connects to the runtime, again whenever the connection ends, and returns when ctx
// does.
func (p *Plugin) Run(ctx context.Context) {
	w, err := dirwatch.New(ctx, unix.IN_CREATE|unix.IN_MOVED_TO)
	if err != nil {
		p.log.Debug("cannot watch the socket of NRI; trying each second", slog.Any("error", err))
	}
	defer w.Close()
	defer p.working.Wait()
	pause := soon
	for ctx.Err() == nil {
		_ = w.Add(filepath.Dir(p.socket)) // where it is missing, the clock has to do
		if p.serve(ctx) {
			pause = soon
		}
		w.Wait(ctx, pause, func(e dirwatch.Event) bool { return e.Name == filepath.Base(p.socket) })
		pause = min(2*pause, atLeast)
	}
}

// serve connects once, and returns when the connection ends. It returns whether there was
// one that was of use.
func (p *Plugin) serve(ctx context.Context) (connected bool) {
	s := &session{plugin: p}
	err := s.run(ctx)
	if ctx.Err() == nil {
		p.disconnected(err)
	}
	return s.connected.Load()
}

// connected notes that the runtime has told of all pods.
func (p *Plugin) connected(c *configuration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state.Connected, p.state.Since, p.state.Problem = true, time.Now().UTC(), ""
	p.state.Runtime, p.state.Version = c.name, c.version
	p.state.Connections++
	p.log.Info("the runtime tells of pods and their labels",
		slog.String("runtime", c.name), slog.String("version", c.version))
}

// disconnected notes why there is no connection, and logs it the first time.
func (p *Plugin) disconnected(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	problem := err.Error()
	if p.state.Connected {
		p.state.Since = time.Now().UTC()
	}
	if p.state.Connected || p.state.Problem != problem {
		p.log.Warn("the runtime does not tell of pods; trying again", slog.String("error", problem))
	}
	p.state.Connected, p.state.Problem = false, problem
}

// started counts a pod that has started.
func (p *Plugin) started(late bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if late {
		p.state.Late++
	} else {
		p.state.Pods++
	}
}
