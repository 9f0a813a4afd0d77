// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/test/docs/shown"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// repository is where the pages are.
const repository = "../.."

// TestShownCommands runs what the documentation shows, page by page and in its
// order, on a node that is set up as the documentation says. What an earlier page
// shows, too, is not run again.
func TestShownCommands(t *testing.T) {
	nstest.OwnDirectory(t, "/opt/cni")
	pages, err := shown.Pages(repository)
	if err != nil {
		t.Fatal(err)
	}
	inspector := buildShownInspector(t)
	ran := make(map[string]bool)
	for _, page := range pages {
		text, err := os.ReadFile(filepath.Join(repository, page))
		if err != nil {
			t.Fatal(err)
		}
		var commands []string
		for _, c := range shown.Commands(string(text)) {
			if _, elsewhere := shown.FindElsewhere(c); !elsewhere && !ran[c] {
				commands, ran[c] = append(commands, c), true
			}
		}
		if len(commands) == 0 {
			continue
		}
		t.Run(page, func(t *testing.T) {
			dir := t.TempDir()
			startShownNode(t, inspector)
			for _, c := range commands {
				runShown(t, dir, c)
			}
		})
	}
}

// runShown runs a command as a shell does. One that goes on is interrupted when it
// has said what is expected of it; each must end well.
func runShown(t *testing.T, dir, line string) {
	t.Helper()
	want, ok := shown.FindExpected(line)
	if !ok {
		t.Errorf("%s: test/docs tells what is missing", line)
		return
	}
	says := regexp.MustCompile(want.Says)
	// The machine that runs the tests may limit their processor time, which doctor
	// is right to call wrong.
	limited := regexp.MustCompile(`(?m)^wrong +cpu limit`)
	var out said
	cmd := exec.CommandContext(t.Context(), "bash", "-o", "pipefail", "-c", line+"; exit $?")
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
	cmd.Env = append(os.Environ(), "PATH="+binDir(t)+":"+os.Getenv("PATH"))
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if want.GoesOn {
		if !nstest.Poll(patience, func() bool { return says.MatchString(out.String()) }) {
			t.Errorf("%s: did not say %q within %v", line, want.Says, patience)
		}
		interruptFirst(t, cmd.Process.Pid)
	}
	err := cmd.Wait()
	if limited.MatchString(out.String()) {
		err = nil
	}
	if err != nil || !says.MatchString(out.String()) {
		t.Errorf("%s: %v, want it to say %q:\n%s", line, err, want.Says, end(out.String()))
	}
	t.Logf("%s: %v", line, time.Since(begin).Round(time.Millisecond))
}

// interruptFirst interrupts the first program that a shell runs; what reads from it
// ends by itself.
func interruptFirst(t *testing.T, shell int) {
	t.Helper()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", shell))
	if err != nil {
		t.Fatal(err)
	}
	var first int
	if _, err := fmt.Sscan(string(children), &first); err != nil {
		t.Fatalf("find the programs that the shell runs: %v", err)
	}
	if err := syscall.Kill(first, syscall.SIGINT); err != nil {
		t.Errorf("interrupt: %v", err)
	}
}

// end is as much as a reader of the test's log needs.
func end(output string) string {
	const enough = 2000
	return output[max(0, len(output)-enough):]
}
