// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"maps"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/test/docs/shown"
)

// Each command line of nsqueuectl that the documentation shows is one that it
// understands: the command is there, and so is each of its flags. That it works,
// too, shows TestShownCommands of test/e2e.
func TestShownCommandsExist(t *testing.T) {
	ctl := filepath.Join(t.TempDir(), "nsqueuectl")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", ctl, "./ctl")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build nsqueuectl: %v\n%s", err, out)
	}
	lines := 0
	for page, text := range pages(t) {
		for _, line := range shown.Commands(text) {
			line, _, _ = strings.Cut(line, " | ")
			rest, ours := strings.CutPrefix(line, "nsqueuectl ")
			if !ours {
				continue
			}
			lines++
			args := strings.Fields(rest)
			cmd := exec.CommandContext(t.Context(), ctl, append(args, "--help")...)
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "\n  nsqueuectl "+command(args)) {
				t.Errorf("%s: %s: %v\n%s", page, line, err, out)
			}
		}
	}
	if lines == 0 {
		t.Error("no command is shown")
	}
}

// command is the first of the arguments that is no flag, or a flag's value.
func command(args []string) string {
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "--socket":
			i++
		case !strings.HasPrefix(args[i], "-"):
			return args[i]
		}
	}
	return ""
}

// What is not run by the test of shown commands is shown, and the test that stands
// for it is there.
func TestElsewhere(t *testing.T) {
	var lines []string
	for _, text := range pages(t) {
		lines = append(lines, shown.Commands(text)...)
	}
	for _, e := range shown.AllElsewhere() {
		uses := func(line string) bool {
			found, ok := shown.FindElsewhere(line)
			return ok && found == e
		}
		if !slices.ContainsFunc(lines, uses) {
			t.Errorf("no page shows %s", e.Line)
		}
		dir, name, named := strings.Cut(e.Test, ": ")
		if named && !hasTest(t, dir, name) {
			t.Errorf("%s: there is no %s in %s", e.Line, name, dir)
		}
		if e.Why == "" || e.Test != "" && !named {
			t.Errorf("%s: why is it not run, and which test stands for it? %+v", e.Line, e)
		}
	}
}

// Each command that is shown is run by test/e2e, and it is said what it must say, or it is
// said why not. Nothing is said of commands that no page shows.
func TestExpected(t *testing.T) {
	run := make(map[string]bool)
	for page, text := range pages(t) {
		for _, line := range shown.Commands(text) {
			if _, elsewhere := shown.FindElsewhere(line); elsewhere {
				continue
			}
			run[line] = true
			if _, ok := shown.FindExpected(line); !ok {
				t.Errorf("%s: %s: say in shown.AllExpected what it must say, or in "+
					"shown.AllElsewhere why it is not run", page, line)
			}
		}
	}
	for _, e := range shown.AllExpected() {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(run)), e.IsAbout) {
			t.Errorf("no page shows %s", e.Command)
		}
		if _, err := regexp.Compile(e.Says); err != nil || e.Says == "" {
			t.Errorf("%s: %q: %v", e.Command, e.Says, err)
		}
	}
}
