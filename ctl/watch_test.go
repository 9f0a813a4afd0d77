// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

func packets() []api.PacketEvent {
	addr := netip.MustParseAddr
	pod := api.Pod{Namespace: "default", Name: "busybox1"}
	key := api.Key{ContainerID: "0fd31c8e5a2b77aa01", Ifname: "eth0"}
	return []api.PacketEvent{
		{
			Packet: 1, Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), Key: key, Pod: pod, Direction: "in", Protocol: "icmp", Length: 84,
			Source: addr("10.230.12.2"), Destination: addr("10.230.96.4"), Verdict: "accept",
		},
		{
			Packet: 2, Key: key, Direction: "out", Protocol: "tcp", Length: 60, Verdict: "drop",
			Source: addr("fd00::1"), SourcePort: 40000, Destination: addr("fd00::2"),
			DestinationPort: 443, OriginMark: 0x10, SetMark: 0xff000010, Rule: "web/default",
		},
		{Packet: 7, Time: testNow(), Pod: pod, Direction: "in", Protocol: "udp", Verdict: "accept"},
	}
}

const packetLines = "" +
	"packet: 1, origin mark: 0x00000000, set mark: 0x00000000, pod: default/busybox1, in, " +
	"10.230.12.2 -> 10.230.96.4, icmp, length: 84, verdict: accept, time: 2026-01-02T03:04:05.000006Z\n" +
	"packet: 2, origin mark: 0x00000010, set mark: 0xff000010, container: 0fd31c8e5a2b/eth0, out, " +
	"[fd00::1]:40000 -> [fd00::2]:443, tcp, length: 60, verdict: drop, rule: web/default, time: 0001-01-01T00:00:00.000000Z\n" +
	"packet: 7, origin mark: 0x00000000, set mark: 0x00000000, pod: default/busybox1, in, " +
	"? -> ?, udp, length: 0, verdict: accept, time: 2026-01-02T03:04:05.000000Z\n"

// watching is what a watch says before its first packet.
const watching = "watching; press Ctrl-C to stop\n"

func TestWatchCount(t *testing.T) {
	d := apitest.Daemon{Packets: packets()}
	socket := d.Start(t)
	nsqueuectl(t.Context(), socket, "watch", "--count", "3").want(t, 0, packetLines,
		watching+"3 packets printed: 2 accept, 1 drop; 4 left out because they came too fast\n")
	first, _, _ := strings.Cut(packetLines, "\n")
	nsqueuectl(t.Context(), socket, "watch", "--count", "1").
		want(t, 0, first+"\n", watching+"1 packet printed: 1 accept\n")
}

// What is asked for is the daemon's to find.
func TestWatchFilters(t *testing.T) {
	d := apitest.Daemon{Packets: packets()}
	socket := d.Start(t)
	for _, line := range []string{
		"",
		"--pod default/busybox1 --rate 0",
		"-n default --pod busybox1",
		"--address 10.0.0.0/8 --no-probes",
		"--direction in --protocol tcp --port 443 --verdict drop",
		"--verdict reject --rule web/default",
	} {
		args := append([]string{"watch", "--count", "1"}, strings.Fields(line)...)
		if o := nsqueuectl(t.Context(), socket, args...); o.status != 0 {
			t.Errorf("%s: %+v", line, o)
		}
	}
	want := []api.WatchRequest{
		{Rate: watchRate},
		{Namespace: "default", Pod: "busybox1"},
		{Namespace: "default", Pod: "busybox1", Rate: watchRate},
		{Address: "10.0.0.0/8", NoProbes: true, Rate: watchRate},
		{Direction: "in", Protocol: "tcp", Port: 443, Verdict: "drop", Rate: watchRate},
		{Verdict: "reject", Rule: "web/default", Rate: watchRate},
	}
	if diff := cmp.Diff(want, d.Watched()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestWatchJSON(t *testing.T) {
	d := apitest.Daemon{Packets: packets()}
	o := nsqueuectl(t.Context(), d.Start(t), "watch", "-o", "json", "--count", "3")
	var got []api.PacketEvent
	for line := range strings.Lines(o.stdout) {
		var e api.PacketEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		got = append(got, e)
	}
	sameAddr := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	if diff := cmp.Diff(packets(), got, sameAddr); diff != "" {
		t.Errorf("packets (-want +got):\n%s", diff)
	}
}

func TestWatchYAML(t *testing.T) {
	d := apitest.Daemon{Packets: packets()}
	o := nsqueuectl(t.Context(), d.Start(t), "watch", "-o", "yaml", "--count", "3")
	var got []api.PacketEvent
	for _, document := range strings.Split(o.stdout, "---\n")[1:] {
		var e api.PacketEvent
		if err := yaml.UnmarshalStrict([]byte(document), &e); err != nil {
			t.Fatalf("document %q: %v", document, err)
		}
		got = append(got, e)
	}
	sameAddr := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	if diff := cmp.Diff(packets(), got, sameAddr); diff != "" {
		t.Errorf("packets (-want +got):\n%s", diff)
	}
}

// Ctrl-C cancels the context.
func TestWatchInterrupted(t *testing.T) {
	d := apitest.Daemon{Packets: packets()}
	socket := d.Start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &cancelWriter{after: 3, cancel: cancel}
	var errs strings.Builder
	s := &IOStreams{out: out, err: &errs, now: testNow, getenv: func(string) string { return "" }}
	status := execute(ctx, s, []string{"watch", "--socket", socket})
	outcome{status, out.String(), errs.String()}.want(t, 0, packetLines,
		watching+"3 packets printed: 2 accept, 1 drop; 4 left out because they came too fast\n")
}

// cancelWriter calls cancel when so many lines have been written.
type cancelWriter struct {
	strings.Builder
	after  int
	cancel func()
}

func (w *cancelWriter) Write(b []byte) (int, error) {
	n, err := w.Builder.Write(b)
	if strings.Count(w.String(), "\n") >= w.after {
		w.cancel()
	}
	return n, err
}

// It goes on with the next daemon, says so, and knows that its packets are
// numbered anew.
func TestWatchDaemonStops(t *testing.T) {
	d := apitest.Daemon{Packets: packets(), WatchEnds: true}
	o := nsqueuectl(t.Context(), d.Start(t), "watch", "--count", "6")
	o.want(t, 0, packetLines+packetLines, watching+noAnswer+"\n"+watching+
		"6 packets printed: 4 accept, 2 drop; 8 left out because they came too fast\n")
}
