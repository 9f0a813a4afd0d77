// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/internal/apitest"
)

// build returns the path of the plugin's binary.
func build(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "nsqueue")
	cmd := exec.CommandContext(tb.Context(), "go", "build", "-trimpath", "-o", path, ".")
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("build plugin: %v\n%s", err, out)
	}
	return path
}

// command returns a call of the binary, with nothing else in its environment.
func command(tb testing.TB, binary, name, stdin string, env ...string) *exec.Cmd {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), binary)
	cmd.Env = append([]string{
		"CNI_COMMAND=" + name, "CNI_CONTAINERID=c0ffee", "CNI_IFNAME=eth0", "CNI_PATH=/opt/cni/bin",
	}, env...)
	cmd.Stdin = strings.NewReader(stdin)
	return cmd
}

func TestBinary(t *testing.T) {
	binary := build(t)
	var d apitest.Daemon
	socket := d.Start(t)
	netns := apitest.OtherNetns(t)

	const result = "{ \"a\":1e400 }"
	add := command(t, binary, "ADD", conf(socket, `"prevResult":`+result), "CNI_NETNS="+netns)
	if out, err := add.Output(); err != nil || string(out) != result {
		t.Errorf("ADD: %v, stdout %q", err, out)
	}

	// A runtime that has closed our stderr must not keep DEL from detaching.
	del := command(t, binary, "DEL", conf(socket, `"unknown":1`))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	del.Stderr = w
	out, err := del.Output()
	_ = w.Close()
	if err != nil || len(out) > 0 {
		t.Errorf("DEL: %v, stdout %q", err, out)
	}
	want := []string{"attach c0ffee/eth0", "detach ended c0ffee/eth0"}
	if diff := cmp.Diff(want, d.Calls()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}

	fail := command(t, binary, "ADD", "{", "CNI_NETNS="+netns)
	out, err = fail.Output()
	if err == nil || !bytes.HasPrefix(out, []byte(`{"cniVersion":"1.1.0","code":6,`)) {
		t.Errorf("bad ADD: %v, stdout %q", err, out)
	}
}

// The whole process, as a runtime pays for it.
func BenchmarkProcess(b *testing.B) {
	binary := build(b)
	var d apitest.Daemon
	add := conf(d.Start(b), prevResult)
	netns := "CNI_NETNS=" + apitest.OtherNetns(b)
	for _, name := range []string{"VERSION", "ADD", "DEL"} {
		b.Run(name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				cmd := command(b, binary, name, add, netns)
				start := time.Now()
				if err := cmd.Run(); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
	}
}
