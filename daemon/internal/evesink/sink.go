// SPDX-License-Identifier: Apache-2.0

// Package evesink writes lines of events to a file, a unix socket or a stream, and never
// lets the caller wait. Lines for which there is no room are dropped and counted.
package evesink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"
)

// defaultQueue bounds the bytes that wait; as many may be on their way to the output.
const defaultQueue = 1 << 20

// After a failure the output is tried again after a pause, which grows.
const (
	firstPause = 100 * time.Millisecond
	maxPause   = 10 * time.Second
)

// Config says where lines go: exactly one of the first three is given.
type Config struct {
	// File is appended to, and made where it is missing.
	File string
	// Socket is where a unix socket of the stream kind listens.
	Socket string
	// Stream is the caller's: Close does not close it.
	Stream io.Writer

	// QueueBytes bounds the lines that wait; 0 is 1 MiB.
	QueueBytes int
	// Log is told when writing begins to fail, and when it goes on.
	Log *slog.Logger
}

// Stats is what has become of lines since the start. Lines that are neither written nor
// dropped wait.
type Stats struct {
	Added, Written, Dropped uint64
	// Failures counts failed connections, openings and writes.
	Failures uint64
}

// output is where lines go. One goroutine uses it.
type output interface {
	// ready prepares the output. It may be usable in spite of an error.
	ready(reopen bool) (usable bool, err error)
	// write returns how many bytes it has written. If it ends inside a line, the rest of
	// that line never comes.
	write(lines []byte) (int, error)
	close() error
}

// Sink is a queue in front of an output, and the goroutine that empties it. Its methods
// are safe for concurrent use.
type Sink struct {
	out  output
	log  *slog.Logger
	most int
	wake chan struct{} // lines have come
	poke chan struct{} // Reopen or Close
	done chan struct{} // the goroutine has ended

	mu       sync.Mutex
	queue    []byte
	stats    Stats
	reopen   bool
	closed   bool
	closeErr error
}

// New starts a sink. An output that is not there yet is no error.
func New(c Config) (*Sink, error) {
	out, err := c.output()
	if err != nil {
		return nil, err
	}
	s := &Sink{
		out: out, log: c.Log, most: c.QueueBytes, wake: make(chan struct{}, 1),
		poke: make(chan struct{}, 1), done: make(chan struct{}),
	}
	if s.most == 0 {
		s.most = defaultQueue
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	go s.run()
	return s, nil
}

func (c *Config) output() (output, error) {
	switch {
	case c.File != "" && c.Socket == "" && c.Stream == nil:
		return &file{path: c.File}, nil
	case c.Socket != "" && c.File == "" && c.Stream == nil:
		return &socket{path: c.Socket}, nil
	case c.Stream != nil && c.File == "" && c.Socket == "":
		return &stream{w: c.Stream}, nil
	}
	return nil, errors.New("events go to one of a file, a socket and a stream")
}

// Add queues a copy of a line, which ends with a line feed and has no other. It returns
// at once, and false if the line is dropped.
func (s *Sink) Add(line []byte) bool {
	s.mu.Lock()
	s.stats.Added++
	room := !s.closed && len(s.queue)+len(line) <= s.most
	if room {
		s.queue = append(s.queue, line...)
	} else {
		s.stats.Dropped++
	}
	s.mu.Unlock()
	if room {
		signal(s.wake)
	}
	return room
}

// Reopen opens a file anew before the next line, and connects to a socket anew.
func (s *Sink) Reopen() {
	s.mu.Lock()
	s.reopen = true
	s.mu.Unlock()
	signal(s.poke)
}

// Stats returns what has become of lines so far.
func (s *Sink) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Close writes what waits and closes the output. An output that fails now is not tried
// again. If the context ends first, writing goes on behind the returned error.
func (s *Sink) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	signal(s.poke)
	select {
	case <-s.done:
		return s.closeErr
	case <-ctx.Done():
		return fmt.Errorf("write the last events: %w", ctx.Err())
	}
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// count changes the statistics.
func (s *Sink) count(change func(*Stats)) {
	s.mu.Lock()
	change(&s.stats)
	s.mu.Unlock()
}

// linesIn returns how many lines end in some bytes.
func linesIn(b []byte) uint64 { return uint64(bytes.Count(b, []byte{'\n'})) }
