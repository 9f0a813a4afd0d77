// SPDX-License-Identifier: Apache-2.0

package trial

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/ctl/internal/pcapng"
	"github.com/nsqueue/nsqueue/daemon/rules"
	"github.com/nsqueue/nsqueue/internal/pcap"
)

// load reads rules of the tests.
func load(tb testing.TB) *rules.Rules {
	tb.Helper()
	r, err := rules.Load("testdata/rules.yaml")
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func run(tb testing.TB, capture []byte, o Options) *Report {
	tb.Helper()
	reader, err := pcap.NewReader(bytes.NewReader(capture))
	if err != nil {
		tb.Fatal(err)
	}
	report, err := Run(load(tb), reader, o)
	if err != nil {
		tb.Fatal(err)
	}
	return report
}

func read(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// Each capture has the report that is beside it. UPDATE=1 writes them.
func TestRun(t *testing.T) {
	captures, err := filepath.Glob("testdata/*.pcap")
	if err != nil || len(captures) == 0 {
		t.Fatal(captures, err)
	}
	for _, capture := range captures {
		name := strings.TrimSuffix(filepath.Base(capture), ".pcap")
		t.Run(name, func(t *testing.T) {
			report := run(t, read(t, name+".pcap"), Options{
				Pod: rules.Pod{Namespace: "agents", Name: "a1"},
			})
			got, err := json.MarshalIndent(report, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			golden := filepath.Join("testdata", name+".json")
			if os.Getenv("UPDATE") != "" {
				if err := os.WriteFile(golden, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(read(t, name+".json")), string(got)); diff != "" {
				t.Errorf("report (-want +got):\n%s", diff)
			}
			e, err := ParseExpectation(got)
			if err != nil {
				t.Fatal(err)
			}
			if unmet := e.Check(report); unmet != nil {
				t.Errorf("the report does not meet itself: %q", unmet)
			}
		})
	}
}

// ownCapture is what nsqueuectl captures of two pods, which are the client and the server
// of the same connection.
func ownCapture(tb testing.TB) []byte {
	tb.Helper()
	var b bytes.Buffer
	w, err := pcapng.NewWriter(&b, "nsqueuectl v1.2.3")
	if err != nil {
		tb.Fatal(err)
	}
	directions := []pcapng.Direction{pcapng.Outbound, pcapng.Inbound}
	for _, name := range []string{"agents/a1", "web/shop"} {
		if _, err := w.AddInterface(pcapng.Interface{
			Name: name, Description: "container 0fd31c8e5a2b, interface eth0", SnapLen: 65535,
		}); err != nil {
			tb.Fatal(err)
		}
	}
	client := netip.MustParseAddr("10.0.0.1")
	for i, p := range packets(tb, "control_tls.pcap") {
		source, _ := netip.AddrFromSlice(p[12:16])
		for pod := range 2 {
			d := directions[pod]
			if source != client {
				d = directions[1-pod]
			}
			if err := w.WritePacket(&pcapng.Packet{
				Interface: pod, Time: time.Date(2026, 1, 2, 3, 4, i, 0, time.UTC), Data: p,
				Length: len(p), Direction: d,
			}); err != nil {
				tb.Fatal(err)
			}
		}
	}
	return b.Bytes()
}

// packets returns those of a capture.
func packets(tb testing.TB, name string) (all [][]byte) {
	tb.Helper()
	reader, err := pcap.NewReader(bytes.NewReader(read(tb, name)))
	for err == nil {
		var p pcap.Packet
		if p, err = reader.Next(); err == nil {
			all = append(all, bytes.Clone(p.IP))
		}
	}
	if len(all) == 0 {
		tb.Fatal(err)
	}
	return all
}

// A capture of nsqueuectl says which pods it has.
func TestPodsOfCapture(t *testing.T) {
	capture := ownCapture(t)
	pods := func(o Options) (names []string) {
		for _, f := range run(t, capture, o).Flows {
			names = append(names, f.Pod+" "+effects(f))
		}
		return names
	}
	const audited = "[{sandbox web log true} {sandbox default drop true}]"
	for name, test := range map[string]struct {
		pod  rules.Pod
		want []string
	}{
		"all":       {rules.Pod{}, []string{"agents/a1 " + audited, "web/shop []"}},
		"one":       {rules.Pod{Namespace: "agents", Name: "a1"}, []string{" " + audited}},
		"other":     {rules.Pod{Namespace: "web", Name: "shop"}, []string{" []"}},
		"neither":   {rules.Pod{Namespace: "x", Name: "y"}, []string{"agents/a1 []", "web/shop []"}},
		"annotated": {rules.Pod{Annotations: map[string]string{"nsqueue.io/profile": "free"}}, []string{"agents/a1 []", "web/shop []"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, pods(Options{Pod: test.pod})); diff != "" {
				t.Errorf("flows (-want +got):\n%s", diff)
			}
		})
	}
}

// Where a capture does not say whose it is, the address does, or the first flow.
func TestSides(t *testing.T) {
	capture := read(t, "control_tls.pcap")
	for name, test := range map[string]struct {
		addresses string
		flows     int
		foreign   bool
	}{
		"client of the first flow": {"", 1, false},
		"client":                   {"10.0.0.1", 1, false},
		"server":                   {"203.0.113.5", 1, false},
		"neither":                  {"10.0.0.9", 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			var o Options
			if test.addresses != "" {
				o.Addresses = []netip.Addr{netip.MustParseAddr(test.addresses)}
			}
			r := run(t, capture, o)
			if len(r.Flows) != test.flows || (r.Foreign > 0) != test.foreign {
				t.Errorf("%d flows, %d foreign packets", len(r.Flows), r.Foreign)
			}
			if test.flows > 0 && (r.Flows[0].Client != "10.0.0.1:40000" || r.Flows[0].Name == "") {
				t.Errorf("flow: %+v", r.Flows[0])
			}
		})
	}
}

// A capture that ends in the middle of a packet is none.
func TestRunBroken(t *testing.T) {
	capture := read(t, "control_tls.pcap")
	reader, err := pcap.NewReader(bytes.NewReader(capture[:len(capture)-3]))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Run(load(t), reader, Options{})
	if _, ok := errors.AsType[*pcap.Error](err); !ok {
		t.Errorf("error %v", err)
	}
}

func effects(f *Flow) string {
	b := make([]string, len(f.Effects))
	for i, e := range f.Effects {
		b[i] = strings.Join([]string{e.RuleSet, e.Rule, e.Action, map[bool]string{true: "true", false: "false"}[e.Audit]}, " ")
	}
	if len(b) == 0 {
		return "[]"
	}
	return "[{" + strings.Join(b, "} {") + "}]"
}

// No capture makes the command end with a panic.
func FuzzRun(f *testing.F) {
	captures, _ := filepath.Glob("testdata/*.pcap")
	for _, capture := range captures {
		f.Add(read(f, filepath.Base(capture)))
	}
	f.Add(ownCapture(f))
	r := load(f)
	f.Fuzz(func(t *testing.T, capture []byte) {
		reader, err := pcap.NewReader(bytes.NewReader(capture))
		if err != nil {
			return
		}
		report, err := Run(r, reader, Options{})
		if err != nil {
			return
		}
		b, err := json.Marshal(report)
		if err != nil {
			t.Fatal(err)
		}
		e, err := ParseExpectation(b)
		if err != nil {
			t.Fatalf("%v\n%s", err, b)
		}
		if unmet := e.Check(report); unmet != nil {
			t.Errorf("the report does not meet itself: %q\n%s", unmet, b)
		}
	})
}
