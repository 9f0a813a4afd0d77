// SPDX-License-Identifier: Apache-2.0

package succession

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// pair returns two connected ends.
func pair(t *testing.T) (a, b *Conn) {
	t.Helper()
	a, b, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// memory returns a file with a text in it.
func memory(t *testing.T, text string) int {
	t.Helper()
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	if err == nil {
		_, err = unix.Write(fd, []byte(text))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func content(t *testing.T, fd int) string {
	t.Helper()
	b := make([]byte, 64)
	n, err := unix.Pread(fd, b, 0)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

// 4,000 descriptors arrive in their order, under their names, whatever there is room
// for at a time.
func TestFourThousandDescriptors(t *testing.T) {
	a, b := pair(t)
	list := make([]Named, 4000)
	fd := memory(t, "x")
	for i := range list {
		list[i] = Named{Name: fmt.Sprintf("q%df", i), FD: fd, ID: uint64(i + 1)}
	}
	list[3999].FD = memory(t, "last")
	out := NewOutbox(&Mirror{}, func() []Named { return list },
		Message{Kind: All, Orderly: true}, fd)
	var names []string
	last, done := -1, false
	for {
		var err error
		if !done {
			if done, err = out.Flush(a); err != nil {
				t.Fatal(err)
			}
		}
		m, fds, err := b.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if m.Kind == All {
			CloseAll(fds)
			if m.Count != len(list) || !m.Orderly {
				t.Errorf("the last message is %+v", m)
			}
			break
		}
		names = append(names, m.Names...)
		if len(names) == len(list) {
			last = fds[len(fds)-1]
			fds = fds[:len(fds)-1]
		}
		CloseAll(fds)
	}
	for i, name := range names {
		if name != list[i].Name {
			t.Fatalf("descriptor %d is %s, want %s", i, name, list[i].Name)
		}
	}
	if last < 0 || content(t, last) != "last" {
		t.Error("the last name has another descriptor")
	}
	CloseAll([]int{last})
}

// What changes while it is copied, and after that, is told: in the end the other side
// has the same, in the same order.
func TestMirror(t *testing.T) {
	a, b := pair(t)
	fd := memory(t, "x")
	var list, theirs []Named
	id := uint64(0)
	add := func(n int) {
		for range n {
			id++
			list = append(list, Named{Name: fmt.Sprintf("q%d", id), FD: fd, ID: id})
		}
	}
	every := func(n int) {
		at := 0
		list = slices.DeleteFunc(list, func(Named) bool { at++; return at%n == 0 })
	}
	change := []func(){func() { add(900) }, func() { every(3) }, func() { add(3) }, nil}
	var m Mirror
	for _, prepare := range []func(){
		func() { add(5000) }, func() { every(7) }, func() { add(1); every(2) }, func() { list = nil },
		func() { add(9000) }, func() { list = list[8999:] }, func() {},
	} {
		prepare()
		out := NewOutbox(&m, func() []Named { return list }, Message{Kind: Copied})
		for i := 0; ; i++ {
			if _, err := out.Flush(a); err != nil {
				t.Fatal(err)
			}
			last, err := drain(b, &theirs)
			if err != nil {
				t.Fatal(err)
			}
			if last.Kind == Copied {
				break
			}
			if i < len(change) && change[i] != nil {
				change[i]()
			}
		}
		if !slices.EqualFunc(list, theirs, func(x, y Named) bool { return x.Name == y.Name }) {
			t.Fatalf("the other side has %d, want %d", len(theirs), len(list))
		}
	}
}

// drain does what the messages say that wait, and returns the last one.
func drain(c *Conn, list *[]Named) (last Message, err error) {
	for {
		m, fds, err := c.Receive()
		if errors.Is(err, ErrAgain) {
			return last, nil
		}
		if err != nil {
			return last, err
		}
		CloseAll(fds)
		for _, name := range m.Names {
			*list = append(*list, Named{Name: name})
		}
		if m.Kind == Forget {
			if *list, err = DeleteAt(*list, m.Positions, func(Named) {}); err != nil {
				return last, err
			}
		}
		if m.Kind == Copied && m.Count != len(*list) {
			return last, fmt.Errorf("count %d, want %d", m.Count, len(*list))
		}
		last = m
	}
}

// Long names need more messages.
func TestLongNames(t *testing.T) {
	a, b := pair(t)
	fd := memory(t, "x")
	list := make([]Named, MaxRights)
	for i := range list {
		list[i] = Named{Name: strings.Repeat("n", 255), FD: fd, ID: uint64(i + 1)}
	}
	out := NewOutbox(&Mirror{}, func() []Named { return list }, Message{Kind: Start})
	if done, err := out.Flush(a); !done || err != nil {
		t.Fatal(done, err)
	}
	count := 0
	for {
		m, fds, err := b.Receive()
		if err != nil {
			t.Fatal(err)
		}
		CloseAll(fds)
		if m.Kind == Start {
			break
		}
		count += len(m.Names)
	}
	if count != len(list) {
		t.Errorf("%d descriptors, want %d", count, len(list))
	}
}

func TestReceiveEnds(t *testing.T) {
	a, b := pair(t)
	if _, _, err := b.Receive(); !errors.Is(err, ErrAgain) {
		t.Errorf("%v, want ErrAgain", err)
	}
	if err := a.Send(&Message{Kind: Abort, Reason: strings.Repeat("ä", maxText)}); err != nil {
		t.Fatal(err)
	}
	a.Close()
	if m, _, err := b.Receive(); err != nil || m.Kind != Abort {
		t.Errorf("%+v, %v, want the abort", m, err)
	}
	if _, _, err := b.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("%v, want EOF", err)
	}
}

// What is refused leaves no descriptor open.
func TestReceiveRefuses(t *testing.T) {
	fd := memory(t, "x")
	for text, tt := range map[string]struct {
		fds  int
		says string
	}{
		"":                              {1, "invalid character"}, // Sendmsg makes a zero byte of it
		"{":                             {0, "unexpected end"},
		`{"kind":"unheard"}`:            {1, "unknown kind"},
		`{"kind":"take"}`:               {1, "want 2"},
		`{"kind":"all"}`:                {0, "want 1"},
		`{"kind":"ready"}`:              {1, "want 0"},
		`{"kind":"descriptors"}`:        {0, "0 names"},
		`{"kind":"all","names":["q1"]}`: {1, "1 names"},
		`{"kind":"descriptors","names":["a","b"]}`:                            {1, "want 2"},
		`{"kind":"forget"}`:                                                   {0, "0 positions"},
		`{"kind":"copied","positions":[1]}`:                                   {0, "1 positions"},
		`{"kind":"forget","positions":[1,1]}`:                                 {0, "rising order"},
		`{"kind":"forget","positions":[-1]}`:                                  {0, "rising order"},
		`{"kind":"forget","positions":[0` + strings.Repeat(",1", 4096) + `]}`: {0, "4097 positions"},
		`{"kind":"descriptors","names":["a:b"]}`:                              {1, "colon"},
		`{"kind":"have","count":-1}`:                                          {0, "count -1"},
		`{"kind":"abort","reason":"` + strings.Repeat("x", 2000) + `"}`:       {0, "2000 bytes"},
		`{"kind":"hello","protocols":[1` + strings.Repeat(",1", 20) + `]}`:    {0, "protocols"},
		`{"kind":"abort","reason":"` + strings.Repeat("x", 70000) + `"}`:      {0, "more than"},
	} {
		a, b := pair(t)
		var rights []byte
		if tt.fds > 0 {
			rights = unix.UnixRights(fd)
		}
		if err := unix.Sendmsg(a.FD(), []byte(text), rights, nil, 0); err != nil {
			t.Fatal(err)
		}
		before := openFiles(t)
		m, fds, err := b.Receive()
		if err == nil || !strings.Contains(err.Error(), tt.says) || fds != nil {
			t.Errorf("%.60s is %+v, %v, want %q", text, m, err, tt.says)
		}
		if after := openFiles(t); after > before {
			t.Errorf("%.60s leaves %d descriptors open", text, after-before)
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"kind":"hello","protocols":[1],"version":"v1","instance":"a/b","stateVersion":1}`), 0)
	f.Add([]byte(`{"kind":"descriptors","names":["q1i","t1i"]}`), 2)
	f.Add([]byte(`{"kind":"all","count":2,"orderly":true}`), 1)
	f.Add([]byte(`{"kind":"abort","reason":"\u0000"}`), 0)
	f.Add([]byte(`{"kind":"forget","positions":[0,2,3]}`), 0)
	f.Fuzz(func(t *testing.T, b []byte, fds int) {
		m, err := decode(b, fds)
		if err != nil {
			return
		}
		if len(m.Names) > MaxRights || m.rights() != fds {
			t.Fatalf("%q is %+v with %d descriptors", b, m, fds)
		}
		again, err := m.encode()
		if err != nil {
			return // longer than what is sent, such as text that is escaped
		}
		if _, err := decode(again, fds); err != nil {
			t.Errorf("%q is sent as %q: %v", b, again, err)
		}
	})
}

func FuzzParseReport(f *testing.F) {
	f.Add([]byte(`{"role":"standby","since":"2026-01-01T00:00:00Z","peers":[{"role":"active"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseReport(b)
		if err == nil && !r.Role.valid() {
			t.Errorf("%q is %+v", b, r)
		}
	})
}

func TestReport(t *testing.T) {
	path := ReportPath(t.TempDir())
	want := Report{
		Role: Active, Identity: Identity{Version: "v1", Instance: "a/b", StateVersion: 1},
		Peers:    []PeerReport{{Role: Standby, Identity: Identity{Version: "v0"}}},
		Refusals: 1, LastRefusal: &Refusal{Reason: "no"}, Ending: true,
	}
	if err := want.Write(path); err != nil {
		t.Fatal(err)
	}
	got, err := ReadReport(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// The lock is held without a gap, however it is handed on.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	first, err := TryLock(dir)
	if err != nil {
		t.Fatal(err)
	}
	held := func() bool {
		l, err := TryLock(dir)
		if err == nil {
			l.Close()
		}
		return errors.Is(err, ErrHeld)
	}
	copied, err := unix.FcntlInt(uintptr(first.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	second, err := AdoptLock(dir, copied)
	if err != nil || !held() {
		t.Fatalf("adopted: %v, held: %v", err, held())
	}
	first.Close()
	if !held() {
		t.Error("the lock ended with the first holder")
	}
	second.Close()
	if held() {
		t.Error("the lock is held by nobody")
	}
	if _, err := AdoptLock(dir, memory(t, "x")); err == nil {
		t.Error("any file is taken for the lock")
	}
}

func TestLease(t *testing.T) {
	l, err := NewLease()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	daemon := LeaseOf(l.read, -1)
	if !daemon.Kept() || !daemon.Claim() || l.Claim() || daemon.Claim() {
		t.Error("want it kept, and claimed once")
	}
	l.End()
	if daemon.Kept() {
		t.Error("it is kept by nobody")
	}
}

// Whoever listens last is found, and the one before does not remove the name.
func TestListenAgain(t *testing.T) {
	dir := t.TempDir()
	if _, err := Dial(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, want that there is none", err)
	}
	first, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	conn, err := Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	other, err := second.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := conn.Send(&Message{Kind: Hello}); err != nil {
		t.Fatal(err)
	}
	if m, _, err := other.Receive(); err != nil || m.Kind != Hello {
		t.Errorf("%+v, %v", m, err)
	}
	second.Remove()
	if _, err := Dial(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, want that there is none any more", err)
	}
}
