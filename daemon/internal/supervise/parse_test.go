// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
	"github.com/nsqueue/nsqueue/daemon/internal/succession"
)

func TestParseMessage(t *testing.T) {
	for text, want := range map[string]message{
		"":                                  {name: defaultName},
		"READY=1\nSTATUS=a=b":               {name: defaultName, ready: true, status: "a=b"},
		"WATCHDOG=1":                        {name: defaultName, alive: true},
		"WATCHDOG=trigger\n":                {name: defaultName, trigger: true},
		"STOPPING=1\nMAINPID=7\nX":          {name: defaultName, stopping: true},
		"FDSTORE=1":                         {name: defaultName, store: true},
		"FDSTORE=1\nFDNAME=q1i\nFDPOLL=0":   {name: "q1i", store: true},
		"FDSTOREREMOVE=1\nFDNAME=q1i":       {name: "q1i", remove: true},
		"READY=0\nFDSTORE=0\nFDNAME=a b.c-": {name: "a b.c-"},
	} {
		got, err := parseMessage([]byte(text))
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"FDNAME=", "FDNAME=a:b", "FDNAME=\x00", "FDNAME=ä", "FDNAME=" + strings.Repeat("a", 256),
		"FDSTORE=1\nFDSTOREREMOVE=1",
	} {
		if m, err := parseMessage([]byte(text)); err == nil {
			t.Errorf("%q is %+v", text, m)
		}
	}
}

func FuzzParseMessage(f *testing.F) {
	f.Add([]byte("READY=1\nSTATUS=a=b"))
	f.Add([]byte("FDSTORE=1\nFDNAME=q1i\nFDPOLL=0"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMessage(b)
		if err == nil && (succession.CheckName(m.name) != nil || m.store && m.remove) {
			t.Errorf("%q is %+v", b, m)
		}
	})
}

func TestHandover(t *testing.T) {
	want := handover{
		Version: handoverVersion, Socket: 5, Path: "/run/nsqueue/supervise.sock", Restarts: 3,
		Held: []held{{Name: "q1i", FD: 7}, {Name: "q1i", FD: 9}},
	}
	fd, err := want.write()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(envHandover, strconv.Itoa(fd))
	got, err := takeHandover()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Error(diff)
	}
	if os.Getenv(envHandover) != "" {
		t.Error("the variable is left")
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
		t.Error("the descriptor is left")
	}
	if got, err := takeHandover(); got != nil || err != nil {
		t.Errorf("without a handover: %+v, %v", got, err)
	}
}

func FuzzParseHandover(f *testing.F) {
	for _, h := range []handover{
		{Version: 1, Socket: 5, Path: "/a", Held: []held{{Name: "q1i", FD: 7}}},
		{Version: 2, Socket: 5, Path: "/a"},
		{Version: 1, Socket: 1, Path: "/a"},
		{Version: 1, Socket: 5, Path: "/a", Held: []held{{Name: "a:b", FD: 7}}},
	} {
		b, err := json.Marshal(h)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHandover(b)
		if err != nil {
			return
		}
		for _, held := range h.Held {
			if held.FD < 3 || succession.CheckName(held.Name) != nil {
				t.Errorf("%q is %+v", b, h)
			}
		}
		if h.Version != handoverVersion || h.Socket < 3 {
			t.Errorf("%q is %+v", b, h)
		}
	})
}

func TestDeaths(t *testing.T) {
	d := backoff{max: 3, window: 10 * time.Second}
	at := time.Unix(1000, 0)
	for _, tt := range []struct {
		after, lived, want time.Duration
		tooMany            bool
	}{
		{0, time.Hour, 0, false},
		{time.Second, time.Second, firstDelay, false},
		{8 * time.Second, 8 * time.Second, 2 * firstDelay, true},
		{6 * time.Second, 6 * time.Second, 4 * firstDelay, false}, // the first two are forgotten
		{20 * time.Second, 20 * time.Second, 0, false},
		{0, 0, firstDelay, false},
		{0, 0, 2 * firstDelay, true},
	} {
		at = at.Add(tt.after)
		if got := d.next(at, tt.lived); got != tt.want || d.tooMany() != tt.tooMany {
			t.Errorf("%v: delay %v, too many %v, want %+v", at, got, d.tooMany(), tt)
		}
	}
	never := backoff{window: 10 * time.Second}
	var last time.Duration
	for range 100 {
		last = never.next(at, 0)
	}
	if last != maxDelay || never.tooMany() {
		t.Errorf("after 100 deaths: delay %v, too many %v", last, never.tooMany())
	}
}

func TestStoreHasLimits(t *testing.T) {
	open := func() int {
		fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	s := store{capacity: 2, closer: newCloser()}
	fds := []int{open(), open(), open()}
	if err := s.put("q1i", fds); err == nil {
		t.Error("three fit into a store for two")
	}
	s.closer.close()
	if _, err := unix.FcntlInt(uintptr(fds[2]), unix.F_GETFD, 0); err == nil {
		t.Error("the one that is too many is open")
	}
	s.capacity, s.closer = 1<<20, newCloser()
	defer s.closer.close()
	defer s.close()
	s.held = append(s.held, held{Name: strings.Repeat("a", fdstore.MaxNames-20), FD: -1})
	if err := s.put("q1i", []int{open(), open(), open()}); err == nil || len(s.held) != 5 {
		t.Errorf("%v: %d descriptors, want an error and room for two names", err, len(s.held))
	}
	if n := len(s.names()); n > fdstore.MaxNames {
		t.Errorf("the names are %d bytes long, want at most %d", n, fdstore.MaxNames)
	}
}

func TestValidate(t *testing.T) {
	c := DefaultConfig()
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	err := (&Config{RuntimeDir: "run", MaxDeaths: -1, Watchdog: -1}).Validate()
	for _, name := range []string{
		"runtime directory", "max descriptors", "max deaths", "watchdog", "start timeout",
		"stop timeout", "abort grace", "death window",
	} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v does not name %q", err, name)
		}
	}
}
