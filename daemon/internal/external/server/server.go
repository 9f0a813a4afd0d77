// SPDX-License-Identifier: Apache-2.0

// Package server is the daemon's side of inspectors on sockets. A Server listens for one
// inspector, of which one at a time is connected, sends it packets in batches, and gives the
// packets the verdicts that come back. Each packet that it takes gets a verdict in time,
// whatever the inspector does.
//
// Goroutines that read queues call InspectBatch, which never waits. Run has one goroutine
// that listens, and two while an inspector is connected: one receives, the other one sends
// what did not fit into the socket. A timer looks after packets that wait for too long.
package server

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// Failure is what becomes of packets that the inspector does not answer.
type Failure uint8

// The failures. ByPolicy leaves packets to the failure policy of their pod, AsBefore to what
// was decided before the inspector was asked.
const (
	ByPolicy Failure = iota
	Accept
	Drop
	AsBefore
)

// Config is what a Server is made with.
type Config struct {
	Name string
	// Socket is the path where the server listens. UID and GID may connect, besides root;
	// −1 is nobody.
	Socket   string
	UID, GID int
	// Memory has packets come in shared memory.
	Memory bool
	// Lends has the inspector read a queue of the number Queue by itself in each netns: its
	// sockets are lent, and no packets are sent.
	Lends     bool
	Queue     uint16
	OnFailure Failure
	// Failure is what people call it.
	Failure string
	// Budget is how long the inspector may take for a packet.
	Budget   time.Duration
	MarkMask uint32
}

// Server serves one inspector.
type Server struct {
	config Config
	reason string // of verdicts
	boot   [16]byte
	// Changed is called when an inspector has connected: it may decide otherwise than the
	// one before, and need other things. The attachments are those that it reads whole.
	Changed func(context.Context, []*inspect.Attachment)
	// Report tells people what happened.
	Report func(level slog.Level, message string)

	link     atomic.Pointer[link] // nil: no inspector is connected
	counters counters
	copies   atomic.Uint32 // CopyRange of the last HELLO
	problem  atomic.Pointer[string]
	events   events
	room     chan struct{} // another inspector may connect

	mu      sync.Mutex // guards what follows, and is taken before that of a link
	arrival chan struct{}
	numbers map[*inspect.Attachment]*number
	last    uint32
}

// number is what an attachment is called.
type number struct {
	number uint32
	whole  bool
}

// New returns a Server that does not listen yet.
func New(c Config) *Server {
	s := &Server{
		config: c, reason: "inspector/" + c.Name, boot: bootID(),
		numbers: make(map[*inspect.Attachment]*number),
		Changed: func(context.Context, []*inspect.Attachment) {},
		Report:  func(slog.Level, string) {},
		room:    make(chan struct{}, 1), arrival: make(chan struct{}),
	}
	s.events = events{server: s, kinds: make(map[string]*said)}
	return s
}

// Attached gives an attachment its number.
func (s *Server) Attached(a *inspect.Attachment, whole bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.numberLocked(a)
	n.whole = whole
	if l := s.link.Load(); l != nil && !s.config.Lends {
		l.announce(a, n.number)
	}
}

// Detached forgets an attachment, of which no packets are left.
func (s *Server) Detached(a *inspect.Attachment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.numbers[a]
	if n == nil {
		return
	}
	delete(s.numbers, a)
	if l := s.link.Load(); l != nil {
		l.forget(a, n.number)
	}
}

func (s *Server) numberLocked(a *inspect.Attachment) *number {
	n := s.numbers[a]
	if n == nil {
		s.last++
		n = &number{number: s.last}
		s.numbers[a] = n
	}
	return n
}

// numberOf returns the number of an attachment.
func (s *Server) numberOf(a *inspect.Attachment) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.numberLocked(a).number
}

// all returns the numbers of all attachments.
func (s *Server) all() map[*inspect.Attachment]number {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make(map[*inspect.Attachment]number, len(s.numbers))
	for a, n := range s.numbers {
		list[a] = *n
	}
	return list
}

// Needs says how many bytes of a packet the inspector wants.
func (s *Server) Needs(*inspect.Attachment) inspect.Needs {
	n := inspect.Needs{Settles: true, Defers: true, CopyRange: s.copies.Load()}
	if n.CopyRange == 0 {
		n.CopyRange = wholePackets
	}
	return n
}

const wholePackets = 1 << 16

// Reader says what reads an attachment.
func (s *Server) Reader(*inspect.Attachment) api.Reader {
	r := api.Reader{Kind: api.ReaderInspector, Name: s.config.Name}
	if l := s.link.Load(); l != nil {
		r.PID = l.peer.pid
	}
	return r
}

// describe returns what an inspector is told of an attachment.
func describe(a *inspect.Attachment) []byte {
	b, err := json.Marshal(struct {
		ContainerID string            `json:"containerID"`
		Ifname      string            `json:"ifname"`
		Network     string            `json:"network,omitempty"`
		Pod         api.Pod           `json:"pod"`
		Annotations map[string]string `json:"annotations,omitempty"`
	}{
		a.ContainerID, a.Ifname, a.Network,
		api.Pod{Namespace: a.PodNamespace, Name: a.PodName, UID: a.PodUID},
		a.Annotations,
	})
	if err != nil { // texts and maps of texts have none
		return fmt.Appendf(nil, "{}")
	}
	return b
}
