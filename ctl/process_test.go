// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api/apitest"
)

// Ctrl-C is the usual end of a watch.
func TestBinaryInterrupted(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "nsqueuectl")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build nsqueuectl: %v\n%s", err, out)
	}
	d := apitest.Daemon{Packets: packets()}
	cmd := exec.CommandContext(t.Context(), binary, "watch")
	cmd.Env = []string{"NSQUEUE_SOCKET=" + d.Start(t)}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(stdout)
	var got strings.Builder
	for range packets() {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		got.WriteString(line)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(&got, lines); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	outcome{0, got.String(), stderr.String()}.want(t, 0, packetLines,
		watching+"3 packets printed: 2 accept, 1 drop; 4 left out because they came too fast\n")
}
