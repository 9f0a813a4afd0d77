// SPDX-License-Identifier: Apache-2.0

package evesink

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func start(t *testing.T, c Config) *Sink {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func add(t *testing.T, s *Sink, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !s.Add([]byte(line + "\n")) {
			t.Errorf("%s was dropped", line)
		}
	}
}

func closeSink(t *testing.T, s *Sink) {
	t.Helper()
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if s.Add([]byte("late\n")) {
		t.Error("a line was added to a closed sink")
	}
}

// written waits until so many lines are written.
func written(t *testing.T, s *Sink, n uint64) {
	t.Helper()
	waitFor(t, func() bool { return s.Stats().Written >= n })
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	timeout := time.After(20 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatal("it does not happen")
		}
	}
}

func content(t *testing.T, path, want string) {
	t.Helper()
	if b, err := os.ReadFile(path); err != nil || string(b) != want {
		t.Errorf("%s has %q, want %q (%v)", filepath.Base(path), b, want, err)
	}
}

func TestConfig(t *testing.T) {
	for _, c := range []Config{{}, {File: "a", Socket: "b"}, {File: "a", Stream: io.Discard}} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v is valid", c)
		}
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "eve.json")
	if err := os.WriteFile(path, []byte("before\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, Config{File: path})
	add(t, s, "one", "two")
	closeSink(t, s)
	content(t, path, "before\none\ntwo\n")
	if got := s.Stats(); got != (Stats{Added: 3, Written: 2, Dropped: 1}) {
		t.Errorf("%+v", got)
	}
}

func TestFileMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "eve.json")
	s := start(t, Config{File: path})
	add(t, s, "one")
	closeSink(t, s)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode&^0o640 != 0 {
		t.Errorf("mode %v", mode)
	}
}

// Tools that rotate logs move or delete the file, and may tell of it or not.
func TestFileMoved(t *testing.T) {
	for name, away := range map[string]func(from, to string) error{
		"moved": os.Rename, "deleted": func(from, _ string) error { return os.Remove(from) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "eve.json")
			s := start(t, Config{File: path})
			add(t, s, "one")
			written(t, s, 1)
			if err := away(path, path+".1"); err != nil {
				t.Fatal(err)
			}
			add(t, s, "two")
			closeSink(t, s)
			content(t, path, "two\n")
		})
	}
}

// Reopen makes the file also where no line follows.
func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "eve.json")
	s := start(t, Config{File: path})
	add(t, s, "one")
	written(t, s, 1)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	s.Reopen()
	waitFor(t, func() bool { _, err := os.Stat(path); return err == nil })
	closeSink(t, s)
	content(t, path+".1", "one\n")
	content(t, path, "")
}

// Where no new file can be made, a moved one is still written to.
func TestReopenFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "eve.json")
	s := start(t, Config{File: path})
	add(t, s, "one")
	written(t, s, 1)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	add(t, s, "two")
	written(t, s, 2)
	closeSink(t, s)
	content(t, path+".1", "one\ntwo\n")
	if s.Stats().Failures == 0 {
		t.Error("nothing has failed")
	}
}

func TestBadFile(t *testing.T) {
	dir := t.TempDir()
	pipe, link := filepath.Join(dir, "pipe"), filepath.Join(dir, "link")
	if err := errors.Join(syscall.Mkfifo(pipe, 0o600), os.Symlink("/dev/null", link)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, link, dir, filepath.Join(dir, "none", "eve.json"), "/dev/null"} {
		s := start(t, Config{File: path})
		add(t, s, "one", "two")
		err := s.Close(t.Context())
		if err == nil || !strings.Contains(err.Error(), "2 events are lost") || s.Stats().Dropped != 2 {
			t.Errorf("%s: %v, %+v", path, err, s.Stats())
		}
	}
}

// listener collects what comes to a socket.
type listener struct {
	*net.UnixListener
	lines chan string
}

func listen(t *testing.T, path string) listener {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return listener{l, make(chan string, 100)}
}

// serve reads one connection to its end, or so many lines of it.
func (l listener) serve(t *testing.T, most int) {
	conn, err := l.Accept()
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	scanner := bufio.NewScanner(conn)
	for n := 0; n < most && scanner.Scan(); n++ {
		l.lines <- scanner.Text()
	}
}

func TestSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "eve.sock")
	var log syncBuffer
	s := start(t, Config{Socket: path, Log: slog.New(slog.NewTextHandler(&log, nil))})
	add(t, s, "before anybody listens")
	waitFor(t, func() bool { return s.Stats().Failures > 0 })
	l := listen(t, path)
	l.serve(t, 1)
	if line := <-l.lines; line != "before anybody listens" {
		t.Error(line)
	}
	// The connection has ended: what follows comes through another one.
	var wait sync.WaitGroup
	wait.Go(func() { l.serve(t, 1<<20) })
	waitFor(t, func() bool {
		s.Add([]byte("after\n"))
		return len(l.lines) > 0
	})
	closeSink(t, s)
	wait.Wait()
	for _, want := range []string{"events are not written", "events are written again"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log without %q: %s", want, log.String())
		}
	}
}

// Reopen connects anew.
func TestSocketReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "eve.sock")
	l := listen(t, path)
	s := start(t, Config{Socket: path})
	for i := range 2 {
		add(t, s, fmt.Sprint(i))
		var wait sync.WaitGroup
		wait.Go(func() { l.serve(t, 10) })
		if line := <-l.lines; line != fmt.Sprint(i) {
			t.Error(line)
		}
		s.Reopen()
		wait.Wait() // the connection has ended
	}
	closeSink(t, s)
}

// A listener that does not read costs lines, but nobody's time.
func TestSilentListener(t *testing.T) {
	path := filepath.Join(t.TempDir(), "eve.sock")
	listen(t, path)
	s := start(t, Config{Socket: path, QueueBytes: 1 << 16})
	line := append(bytes.Repeat([]byte("x"), 1<<12), '\n')
	waitFor(t, func() bool { s.Add(line); return s.Stats().Dropped > 100 })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-s.done
	if got := s.Stats(); got.Added != got.Written+got.Dropped {
		t.Errorf("%+v", got)
	}
}

// syncBuffer is a buffer for several goroutines, whose writes can be made to fail.
type syncBuffer struct {
	mu   sync.Mutex
	b    bytes.Buffer
	fail int // how many bytes of the next write succeed; -1: all
	errs int // how many writes fail
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.errs > 0 {
		b.errs--
		n, _ := b.b.Write(p[:min(len(p), b.fail)])
		return n, errors.New("disk full")
	}
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// A failed write loses the line that it has torn, and no other.
func TestTornLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &syncBuffer{fail: 6, errs: 1}
		s := start(t, Config{Stream: b})
		synctest.Wait()
		s.mu.Lock() // so that one batch has all
		s.queue = append(s.queue, "one\ntwo\nthree\n"...)
		s.stats.Added = 3
		s.mu.Unlock()
		signal(s.wake)
		synctest.Wait()
		if got := s.Stats(); got != (Stats{Added: 3, Written: 1, Dropped: 1, Failures: 1}) {
			t.Errorf("%+v", got)
		}
		<-time.After(firstPause)
		synctest.Wait()
		if got := b.String(); got != "one\ntw\nthree\n" {
			t.Errorf("%q", got)
		}
		closeSink(t, s)
	})
}

// The pause after failures grows up to its bound.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &syncBuffer{errs: 10}
		begin := time.Now()
		s := start(t, Config{Stream: b})
		add(t, s, "one")
		tick := time.NewTicker(firstPause)
		defer tick.Stop()
		for s.Stats().Written == 0 {
			<-tick.C
			synctest.Wait()
		}
		// 0.1 + 0.2 + ... + 6.4 seconds, and then 10 at a time.
		if got := time.Since(begin); got != 12700*time.Millisecond+3*maxPause {
			t.Error(got)
		}
		closeSink(t, s)
	})
}

// A stream that blocks does not block who adds lines.
func TestBlockedStream(t *testing.T) {
	r, w := io.Pipe()
	s := start(t, Config{Stream: w, QueueBytes: 8})
	for s.Stats().Dropped == 0 {
		s.Add([]byte("abc\n"))
	}
	var got bytes.Buffer
	var wait sync.WaitGroup
	wait.Go(func() { _, _ = io.Copy(&got, r) })
	closeSink(t, s)
	_ = w.Close()
	wait.Wait()
	if n := linesIn(got.Bytes()); n != s.Stats().Written || n == 0 {
		t.Errorf("%d lines, %+v", n, s.Stats())
	}
}

// Lines of several callers stay whole and are all accounted for.
func TestConcurrent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "eve.json")
	s := start(t, Config{File: path, QueueBytes: 1 << 12})
	var wait sync.WaitGroup
	for i := range 4 {
		wait.Go(func() {
			for range 1000 {
				s.Add(fmt.Appendf(nil, "line of %d\n", i))
				s.Reopen()
			}
		})
	}
	wait.Wait()
	closeSink(t, s)
	b, err := os.ReadFile(path)
	got := s.Stats()
	if err != nil || linesIn(b) != got.Written || got.Added != got.Written+got.Dropped {
		t.Errorf("%d lines, %+v, %v", linesIn(b), got, err)
	}
	if n := uint64(strings.Count(string(b), "line of ")); n != got.Written {
		t.Errorf("%d of %d lines are whole", n, got.Written)
	}
}

func BenchmarkAdd(b *testing.B) {
	s, err := New(Config{Stream: io.Discard})
	if err != nil {
		b.Fatal(err)
	}
	line := append(bytes.Repeat([]byte("x"), 850), '\n')
	b.ReportAllocs()
	for b.Loop() {
		s.Add(line)
	}
	if err := s.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(s.Stats().Dropped)/float64(b.N), "dropped/op")
}
