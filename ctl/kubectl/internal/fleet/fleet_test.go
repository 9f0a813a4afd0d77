// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/pods"
)

// cluster is one whose nodes all do the same.
type cluster func(ctx context.Context, stdout, stderr io.Writer) error

func (c cluster) Find(context.Context) ([]pods.Pod, error) { return nil, errors.New("not now") }

func (c cluster) Exec(
	ctx context.Context, _ pods.Pod, _ []string, stdout, stderr io.Writer,
) error {
	return c(ctx, stdout, stderr)
}

func fleetOf(c cluster) *Fleet {
	return &Fleet{Cluster: c, Parallel: 2, Silence: time.Minute, Pause: time.Millisecond}
}

// A connection that does not end is left behind, and what it brings later goes nowhere.
func TestExecLeavesBehind(t *testing.T) {
	hangs, written := make(chan struct{}), make(chan struct{})
	f := fleetOf(func(_ context.Context, stdout, _ io.Writer) error {
		<-hangs
		_, err := stdout.Write([]byte("too late"))
		close(written)
		return err
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out bytes.Buffer
	if err := f.Exec(ctx, pods.Pod{}, nil, &out, io.Discard); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(hangs)
	<-written
	if out.Len() > 0 {
		t.Errorf("%q", out.String())
	}
}

// Time in which the reader is slow is none in which the node is silent.
func TestSlowReader(t *testing.T) {
	f := fleetOf(func(_ context.Context, stdout, _ io.Writer) error {
		_, err := stdout.Write([]byte("x"))
		return err
	})
	f.Silence = 10 * time.Millisecond
	slow := writer(func(p []byte) (int, error) {
		<-time.After(5 * f.Silence)
		return len(p), nil
	})
	if err := f.Exec(t.Context(), pods.Pod{}, nil, slow, io.Discard); err != nil {
		t.Error(err)
	}
}

type writer func(p []byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// A reader that fails ends the connection, and is why.
func TestReaderFails(t *testing.T) {
	f := fleetOf(func(ctx context.Context, stdout, _ io.Writer) error {
		if _, err := stdout.Write([]byte("x")); err != nil {
			t.Error("who copies would log this:", err)
		}
		<-ctx.Done()
		return ctx.Err()
	})
	full := errors.New("full")
	broken := writer(func([]byte) (int, error) { return 0, full })
	if err := f.Exec(t.Context(), pods.Pod{}, nil, broken, io.Discard); !errors.Is(err, full) {
		t.Error(err)
	}
}

// No answer is longer than there is room for, and reasons are cut.
func TestAskBounded(t *testing.T) {
	f := fleetOf(func(ctx context.Context, stdout, stderr io.Writer) error {
		_, _ = stderr.Write([]byte("nsqueuectl: " + strings.Repeat("x", 2*maxSaid)))
		for range maxAnswer>>20 + 1 {
			_, _ = stdout.Write(make([]byte, 1<<20))
		}
		<-ctx.Done()
		return ctx.Err()
	})
	a := f.Ask(t.Context(), []pods.Pod{{Node: "n"}}, nil, func([]string) {})[0]
	if !errors.Is(a.Err, errTooLong) || len(a.Out) > maxAnswer || len(a.Said) > maxSaid {
		t.Errorf("%v, %d, %d", a.Err, len(a.Out), len(a.Said))
	}
}

// Those who wait are told for whom, down to none.
func TestAskTells(t *testing.T) {
	var mu sync.Mutex
	var told []int
	f := fleetOf(func(context.Context, io.Writer, io.Writer) error { return nil })
	f.Ask(t.Context(), []pods.Pod{{Node: "a"}, {Node: "b"}, {Node: "c"}}, nil, func(missing []string) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, len(missing))
	})
	if diff := cmp.Diff([]int{3, 2, 1, 0}, told); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A node answers when it has said for a while that it is there, and not when it says why it
// fails.
func TestUp(t *testing.T) {
	kinds := func(stdout, stderr string) []Kind {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		f := fleetOf(func(ctx context.Context, out, errs io.Writer) error {
			_, _ = io.WriteString(errs, stderr)
			_, _ = io.WriteString(out, stdout)
			return &pods.ExitError{Status: 1}
		})
		events := make(chan Event[string])
		go func() {
			defer close(events)
			Follow(ctx, f, []pods.Pod{{Node: "n"}}, nil,
				JSONLines(func(b []byte) (string, error) { return string(b), nil }), events)
		}()
		var all []Kind
		for e := range events {
			all = append(all, e.Kind)
		}
		return all
	}
	for _, test := range []struct {
		stdout, stderr string
		want           []Kind
	}{
		{"", "", []Kind{Gone}},
		{"", "\n", []Kind{Gone}},
		{"", "\n\n\n", []Kind{Up, Gone}},
		{"", "\nnsqueuectl: no\nSee this.\n", []Kind{Said, Said, Gone}},
		{"", "\nwatching\n", []Kind{Up, Said, Gone}},
		{"a\n\nb\nc", "\n", []Kind{Up, Value, Value, Gone}},
	} {
		if diff := cmp.Diff(test.want, kinds(test.stdout, test.stderr)); diff != "" {
			t.Errorf("%q %q (-want +got):\n%s", test.stdout, test.stderr, diff)
		}
	}
}

// However a text comes, its lines are the same.
func FuzzLines(f *testing.F) {
	f.Add("a\n\nbc\nd", uint8(1))
	f.Add("{}\n\xff\n", uint8(3))
	f.Fuzz(func(t *testing.T, text string, size uint8) {
		var got []string
		w := Lines(func(line []byte) error {
			got = append(got, string(line))
			return nil
		})
		step := int(size%7) + 1
		for rest := text; rest != ""; rest = rest[min(step, len(rest)):] {
			if n, err := w.Write([]byte(rest[:min(step, len(rest))])); err != nil || n != min(step, len(rest)) {
				t.Fatal(n, err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		want := strings.Split(text, "\n")
		if diff := cmp.Diff(strings.Join(want[:len(want)-1], "|"), strings.Join(got, "|")); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestLineTooLong(t *testing.T) {
	w := Lines(func([]byte) error { return nil })
	for range maxLine >> 20 {
		if _, err := w.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Write([]byte("x")); !errors.Is(err, errTooLong) {
		t.Error(err)
	}
}
