// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// said is what a command wrote so far.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// operator runs nsqueuectl against the rig's daemon.
func (r *rig) operator(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	args = append(args, "--socket", r.Socket())
	return exec.CommandContext(t.Context(), filepath.Join(binDir(t), "nsqueuectl"), args...)
}

// run returns what a command prints, which must succeed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, err, out, stderr.String())
	}
	return string(out)
}

// A capture of two pods that talk is what Wireshark's programs read: an interface
// for each pod, the whole packets, their verdicts and marks as comments.
func TestCapture(t *testing.T) {
	r := startRig(t, api.Ignore)
	n := r.open(t, flannelList, "", api.Ignore)
	a, b := newPod(t, n, "a"), newPod(t, n, "b")
	file := filepath.Join(r.dir, "a.pcapng")
	cmd := r.operator(t, "capture", "-w", file, "--protocol", "icmp", "--count", "4")
	var stderr said
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	nstest.Eventually(t, patience, "it captures", func() bool {
		return strings.Contains(stderr.String(), "capturing")
	})
	echoUDP(t, a, b, b.IPv4) // not asked for
	if got := a.NetNS.Ping(t, b.IPv4, 1, patience); got != 1 {
		t.Fatal("no answer")
	}
	if err := cmd.Wait(); err != nil || !strings.Contains(stderr.String(), "4 packets written") {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	info := run(t, "capinfos", file)
	for _, want := range []string{
		"Wireshark/... - pcapng", "Raw IP", "Number of interfaces in file: 2", "nsqueuectl",
	} {
		if !strings.Contains(info, want) {
			t.Errorf("capinfos does not say %q:\n%s", want, info)
		}
	}
	text := run(t, "tshark", "-n", "-r", file, "-T", "fields", "-E", "separator=|",
		"-e", "frame.interface_name", "-e", "icmp.type", "-e", "ip.src", "-e", "frame.len",
		"-e", "frame.comment")
	var got []string
	for line := range strings.Lines(text) {
		got = append(got, strings.TrimSuffix(line, "\n"))
	}
	var want []string
	for _, hop := range []struct{ pod, kind, from string }{
		{a.Name, "8", a.IPv4.String()},
		{b.Name, "8", a.IPv4.String()},
		{b.Name, "0", b.IPv4.String()},
		{a.Name, "0", b.IPv4.String()},
	} {
		want = append(want, strings.Join([]string{
			"default/" + hop.pod, hop.kind, hop.from, frameLength(text),
			"verdict: accept, origin mark: 0x00000000, set mark: 0x00000000",
		}, "|"))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("tshark sees\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if malformed := run(t, "tshark", "-n", "-r", file, "-Y", "_ws.malformed"); malformed != "" {
		t.Errorf("malformed packets:\n%s", malformed)
	}
}

// frameLength returns the length of the first packet; all pings are as long.
func frameLength(fields string) string {
	f := strings.Split(fields, "|")
	if len(f) < 4 {
		return ""
	}
	return f[3]
}

// The operator finds a pod by its name, and what it does.
func TestOperatorLooks(t *testing.T) {
	r := startRig(t, api.Fail)
	n := r.open(t, flannelList, "", api.Fail)
	a, b := newPod(t, n, "a"), newPod(t, n, "b")
	pingAll(t, a, b.IPv4)
	text := run(t, r.operator(t).Path, "describe", "default/"+a.Name, "-o", "json",
		"--socket", r.Socket())
	var described struct{ Attachments []api.Description }
	if err := json.Unmarshal([]byte(text), &described); err != nil {
		t.Fatal(err)
	}
	if d := described.Attachments; len(d) != 1 || d[0].Key != a.Key() || len(d[0].QueueStates) != 1 ||
		!d[0].QueueStates[0].Bound || d[0].Counters.Packets < 6 || d[0].Problem != "" {
		t.Errorf("%s", text)
	}
	text = run(t, r.operator(t).Path, "stats", "--once", "--interval", "200ms",
		"--socket", r.Socket())
	for _, want := range []string{"2 attachments, 2 shown", "default/" + a.Name, "default/" + b.Name} {
		if !strings.Contains(text, want) {
			t.Errorf("stats does not say %q:\n%s", want, text)
		}
	}
}
