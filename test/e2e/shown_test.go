// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/test/docs/shown"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// repository is where the pages are.
const repository = "../.."

// expected is what a command says that the documentation shows.
type expected struct {
	// command begins with this.
	command string
	// says is an expression for something in its output.
	says string
	// goesOn until it is interrupted.
	goesOn bool
}

func (e expected) isAbout(line string) bool { return strings.HasPrefix(line, e.command) }

// expectations are for all commands that are run; of several the first counts.
func expectations() []expected {
	return []expected{
		{"nsqueued --help", "--config file", false},
		{"nsqueuectl doctor", `(?m)^ok +daemon +`, false},
		{"nsqueuectl status", `Hook: +nft`, false},
		{"nsqueuectl ready --runtime-dir /run/nsqueue", `^ready: `, false},
		{"nsqueuectl ready", `^ready: nsqueued `, false},
		{"nsqueuectl list", `default/busybox1 `, false},
		{"nsqueuectl --socket /run/nsqueue/observe.sock list", `default/busybox1 `, false},
		{"nsqueuectl describe default/busybox1", `(?s)default/busybox1.*active`, false},
		{"nsqueuectl stats", `default/busybox1 `, true},
		{"nsqueuectl watch --pod default/busybox1 --protocol tcp", `default/busybox1, .*, tcp, .*verdict: accept`, true},
		{"nsqueuectl watch --pod default/busybox1 --verdict drop", `default/busybox1, .*verdict: drop`, true},
		{"nsqueuectl capture -w - --pod default/busybox1 --protocol tcp | tshark", "TCP", true},
		{"nsqueuectl capture -w dns.pcapng --port 53 --count 100", "100 packets written", false},
		{"nsqueuectl capture -w drops.pcapng --verdict drop --count 1000", "1000 packets written", false},
		{"nsqueuectl events --follow", "takeOver", true},
		{"nsqueuectl events", "takeOver", false},
		{"nsqueuectl install --dry-run", "nsqueue", false},
		{"nsqueuectl install --watch", "watching /etc/cni/net.d", true},
		{"nsqueuectl install --exclude-namespaces kube-system --watch", "watching /etc/cni/net.d", true},
		{"nsqueuectl install", "10-flannel.conflist", false},
		{"nsqueuectl uninstall", "10-flannel.conflist", false},
		{"nsqueuectl adopt --dry-run", "would adopt", false},
		{"nsqueuectl adopt", "adopted", false},
		{"nsqueuectl upgrade", "upgraded", false},
		{"nsqueuectl attach --netns /run/netns/vpn", "vpn", false},
		{"nsqueuectl detach --all", "detached", false},
		{"nsqueuectl detach 0fd31c8e5a2b", "0fd31c8e5a2b", false},
		{"nsqueuectl log-level debug", "debug", false},
		{"nsqueuectl completion bash", "__nsqueuectl", false},
		{"curl --unix-socket /run/nsqueue/observe.sock", "nsqueue_packets_total", false},
	}
}

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
	for _, e := range expectations() {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(ran)), e.isAbout) {
			t.Errorf("no page shows %s", e.command)
		}
	}
}

// runShown runs a command as a shell does. One that goes on is interrupted when it
// has said what is expected of it; each must end well.
func runShown(t *testing.T, dir, line string) {
	t.Helper()
	want, err := expectation(line)
	if err != nil {
		t.Error(err)
		return
	}
	says := regexp.MustCompile(want.says)
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
	if want.goesOn {
		if !nstest.Poll(patience, func() bool { return says.MatchString(out.String()) }) {
			t.Errorf("%s: did not say %q within %v", line, want.says, patience)
		}
		interruptFirst(t, cmd.Process.Pid)
	}
	err = cmd.Wait()
	if limited.MatchString(out.String()) {
		err = nil
	}
	if err != nil || !says.MatchString(out.String()) {
		t.Errorf("%s: %v, want it to say %q:\n%s", line, err, want.says, end(out.String()))
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

func expectation(line string) (expected, error) {
	for _, e := range expectations() {
		if e.isAbout(line) {
			return e, nil
		}
	}
	return expected{}, fmt.Errorf("%s: say in expectations what it must say, or in package shown "+
		"why it is not run", line)
}
