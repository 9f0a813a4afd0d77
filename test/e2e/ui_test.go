// SPDX-License-Identifier: Apache-2.0

//go:build e2e && browser

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// TestPage has a browser look at a node. A program in the directory test/ui drives it, and
// asks for what is to happen on the node. With NSQUEUE_PICTURES it leaves pictures there.
func TestPage(t *testing.T) {
	r := newRulesRig(t, api.Fail, refusing(badName))
	r.serve(t)
	a := newPod(t, r.network, "agents/a")
	newPod(t, r.network, "agents/<u>x")
	pictures := os.Getenv("NSQUEUE_PICTURES")
	if pictures == "" {
		pictures = t.TempDir()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	node := exec.CommandContext(ctx, "node", "page.mjs", r.page(t), pictures)
	node.Dir, node.Stderr = "../ui", os.Stderr
	in, err := node.StdinPipe()
	nstest.Must(t, err)
	out, err := node.StdoutPipe()
	nstest.Must(t, err)
	nstest.Must(t, node.Start())
	well := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		verb, what, _ := strings.Cut(lines.Text(), " ")
		switch verb {
		case "do":
			_, err := fmt.Fprintln(in, r.happen(t, a, what))
			nstest.Must(t, err)
		case "seen":
			t.Logf("a refusal is on the page after %s ms", what)
		case "ok":
			well = true
			nstest.Must(t, in.Close())
		}
	}
	if err := node.Wait(); err != nil || !well {
		t.Errorf("the page does not do what it should: %v", err)
	}
}

// page starts a server of the page, and returns its address.
func (r *rulesRig) page(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), r.operator(t).Path, "ui", "--socket", r.Socket())
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	out, err := cmd.StdoutPipe()
	nstest.Must(t, err)
	nstest.Must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Cancel()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	nstest.Must(t, err)
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return strings.TrimSpace(line)
}

// happen does on the node what the page's driver asks for.
func (r *rulesRig) happen(t *testing.T, a *chain.Pod, what string) string {
	t.Helper()
	switch what {
	case "refuse":
		if _, err := r.connect(t, a, badName); err == nil {
			t.Error("not refused")
		}
		return strconv.FormatInt(time.Now().UnixMilli(), 10) //nolint:forbidigo // a browser compares it with its own clock
	case "connect":
		conn, err := r.connect(t, a, goodName)
		nstest.Must(t, err)
		talk(t, conn)
	case "stop":
		nstest.Must(t, r.Stop())
	case "start":
		r.start(t)
	default:
		t.Errorf("the page's driver asks for %q", what)
	}
	return "done"
}
