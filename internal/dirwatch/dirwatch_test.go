// SPDX-License-Identifier: Apache-2.0

package dirwatch

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/test/nstest"
)

func newWatch(ctx context.Context, t *testing.T, mask uint32) *Watch {
	t.Helper()
	w, err := New(ctx, mask)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// The names and masks of real events, in their order.
func TestWait(t *testing.T) {
	dir := t.TempDir()
	w := newWatch(t.Context(), t, unix.IN_CLOSE_WRITE|unix.IN_MOVED_TO|unix.IN_DELETE_SELF)
	for range 2 {
		nstest.Must(t, w.Add(dir))
	}
	long := strings.Repeat("n", 255)
	nstest.Must(t, os.WriteFile(filepath.Join(dir, "a"), nil, 0o600))
	nstest.Must(t, os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, long)))
	nstest.Must(t, os.RemoveAll(dir))
	var got []Event
	if !w.Wait(t.Context(), time.Minute, func(e Event) bool {
		got = append(got, e)
		return e.Mask&unix.IN_IGNORED != 0
	}) {
		t.Error("the end of the watch was not reported")
	}
	want := []Event{
		{unix.IN_CLOSE_WRITE, "a"},
		{unix.IN_MOVED_TO, long},
		{unix.IN_DELETE_SELF, ""},
		{unix.IN_IGNORED, ""},
	}
	if !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
}

func never(Event) bool { return false }

func TestWaitEnds(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	w := newWatch(ctx, t, unix.IN_CREATE)
	nstest.Must(t, w.Add(dir))
	if w.Wait(ctx, time.Millisecond, never) {
		t.Error("something happened where nothing did")
	}
	nstest.Must(t, os.Mkdir(filepath.Join(dir, "a"), 0o700))
	if w.Wait(ctx, time.Hour, func(Event) bool { cancel(); return false }) || ctx.Err() == nil {
		t.Error("no end with the context")
	}
}

func TestAddRefuses(t *testing.T) {
	w := newWatch(t.Context(), t, unix.IN_CREATE)
	file := filepath.Join(t.TempDir(), "f")
	if err := w.Add(file); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), file) {
		t.Errorf("missing directory: %v", err)
	}
	nstest.Must(t, os.WriteFile(file, nil, 0o600))
	if err := w.Add(file); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("file: %v", err)
	}
}

// Where the kernel gives no descriptor, time passes all the same.
func TestWithoutInotify(t *testing.T) {
	w := &Watch{}
	nstest.Must(t, w.Add("/nowhere"))
	if w.Wait(t.Context(), time.Millisecond, func(Event) bool { return true }) {
		t.Error("something happened")
	}
	w.Close()
}

// encode writes events as the kernel does.
func encode(list ...Event) []byte {
	var b []byte
	for _, e := range list {
		padded := make([]byte, (len(e.Name)+unix.SizeofInotifyEvent)/16*16)
		copy(padded, e.Name)
		if e.Name == "" {
			padded = nil
		}
		head := make([]byte, unix.SizeofInotifyEvent)
		binary.NativeEndian.PutUint32(head[maskOffset:], e.Mask)
		binary.NativeEndian.PutUint32(head[lengthOffset:], uint32(len(padded)))
		b = slices.Concat(b, head, padded)
	}
	return b
}

// FuzzEvents: whatever the bytes are, the events lie within them, and are read
// again when they are written again.
func FuzzEvents(f *testing.F) {
	all := encode(Event{unix.IN_CREATE, "a"}, Event{unix.IN_Q_OVERFLOW, ""},
		Event{unix.IN_MOVED_TO | unix.IN_ISDIR, strings.Repeat("n", 255)})
	for _, end := range []int{0, 4, 16, 17, 31, 32, 48, len(all) - 1, len(all)} {
		f.Add(all[:end])
	}
	f.Add(slices.Repeat([]byte{0xff}, 32))
	f.Fuzz(func(t *testing.T, b []byte) {
		got := slices.Collect(events(b))
		size := 0
		for _, e := range got {
			size += unix.SizeofInotifyEvent + len(e.Name)
			if strings.ContainsRune(e.Name, 0) {
				t.Errorf("name %q", e.Name)
			}
		}
		if size > len(b) {
			t.Errorf("%d bytes of events in %d", size, len(b))
		}
		if again := slices.Collect(events(encode(got...))); !slices.Equal(again, got) {
			t.Errorf("events %v, then %v", got, again)
		}
	})
}
