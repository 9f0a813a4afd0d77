// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/ctl/internal/options"
	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

const capturing = "capturing; press Ctrl-C to stop\n"

// captured are packets of two pods with content.
func captured() []api.PacketEvent {
	events := packets()
	for i := range events {
		events[i].Time, events[i].Payload = testNow(), []byte{0x45, 1, 2, 3}
	}
	events[1].ContainerID = "0fd4"
	return events
}

func TestCapture(t *testing.T) {
	d := apitest.Daemon{Packets: captured(), WatchEnds: true}
	socket := d.Start(t)
	file := filepath.Join(t.TempDir(), "a.pcapng")
	args := []string{"capture", "--count", "3", "--port", "53", "-w"}
	const summary = capturing +
		"3 packets written: 2 accept, 1 drop; 4 left out because they came too fast\n"
	nsqueuectl(t.Context(), socket, append(args, file)...).want(t, 0, "", summary)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for word, n := range map[string]int{
		"nsqueuectl ": 1, "default/busybox1": 2, "0fd4/eth0": 1, "interface eth0": 2,
		"verdict: accept, origin mark: 0x00000000, set mark: 0x00000000":                  2,
		"verdict: drop, rule: web/default, origin mark: 0x00000010, set mark: 0xff000010": 1,
		"\x45\x01\x02\x03": 3,
	} {
		if got := strings.Count(string(text), word); got != n {
			t.Errorf("%q is there %d times, want %d", word, got, n)
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v; want it for its owner only", info.Mode(), err)
	}
	o := nsqueuectl(t.Context(), socket, append(args, "-")...)
	o.want(t, 0, string(text), summary)
	want := api.WatchRequest{Port: 53, Rate: options.CaptureRate, Payload: 1500}
	if diff := cmp.Diff([]api.WatchRequest{want, want}, d.Watched()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// The file is as large as it may be, and whole.
func TestCaptureLimits(t *testing.T) {
	d := apitest.Daemon{WatchEnds: true}
	for i := range uint64(100) {
		e := captured()[0]
		e.Packet, e.Payload = i+1, make([]byte, 60000)
		d.Packets = append(d.Packets, e)
	}
	socket := d.Start(t)
	file := filepath.Join(t.TempDir(), "a.pcapng")
	o := nsqueuectl(t.Context(), socket, "capture", "-w", file, "--max-size", "1")
	info, err := os.Stat(file)
	if err != nil || o.status != 0 || info.Size() < 1<<20 || info.Size() > 1<<20+61000 {
		t.Errorf("%+v, %v", o, err)
	}
	// It ends well also where the time is over.
	d.WatchEnds = false
	o = nsqueuectl(t.Context(), socket, "capture", "-w", file, "--duration", "300ms")
	if o.status != 0 || !strings.Contains(o.err, "packets written") {
		t.Errorf("%+v", o)
	}
}

func TestCaptureRefused(t *testing.T) {
	d := apitest.Daemon{Packets: captured()}
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "target"), link); err != nil {
		t.Fatal(err)
	}
	socket := d.Start(t)
	for line, want := range map[string]struct {
		status int
		err    string
	}{
		"":                     {2, `required flag(s) "write" not set`},
		"-w x --snaplen 0":     {2, "snaplen 0: want 1 to 65535"},
		"-w x --max-size -1":   {2, "max-size -1: want 0 or more"},
		"-w x --duration -1s":  {2, "duration -1s: want 0 or more"},
		"-w x --verdict maybe": {2, `verdict "maybe"`},
		"-w /nowhere/at/all":   {1, "open capture: open /nowhere/at/all: no such file"},
		"-w " + link:           {1, "too many levels of symbolic links"},
	} {
		o := nsqueuectl(t.Context(), socket, append([]string{"capture"}, strings.Fields(line)...)...)
		if o.status != want.status || !strings.Contains(o.err, want.err) {
			t.Errorf("%s: %+v", line, o)
		}
	}
	if got := d.Watched(); got != nil {
		t.Errorf("the daemon was asked: %v", got)
	}
	// Those who only look do not see the content.
	observers := d.StartObservers(t, -1)
	o := nsqueuectl(t.Context(), observers, "capture", "-w", filepath.Join(dir, "b"))
	if o.status != 1 || !strings.Contains(o.err, "the content of packets is not shown") {
		t.Errorf("%+v", o)
	}
}
