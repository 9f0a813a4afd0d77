// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each command line of nsqueuectl that the documentation shows is one that it
// understands: the command is there, and so is each of its flags.
func TestShownCommandsExist(t *testing.T) {
	ctl := filepath.Join(t.TempDir(), "nsqueuectl")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", ctl, "./ctl")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build nsqueuectl: %v\n%s", err, out)
	}
	pages, err := filepath.Glob(filepath.Join(root, "docs/*.md"))
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for _, page := range append(pages, filepath.Join(root, "README.md")) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range shownCommands(string(text)) {
			lines++
			cmd := exec.CommandContext(t.Context(), ctl, append(line, "--help")...)
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "\n  nsqueuectl "+command(line)) {
				t.Errorf("%s: nsqueuectl %s: %v\n%s", filepath.Base(page), strings.Join(line, " "), err,
					out)
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

// shownCommands returns the arguments of nsqueuectl in what is set as code: a
// line that is further in, or words between backquotes.
func shownCommands(text string) (commands [][]string) {
	shown := regexp.MustCompile("(?m)(?:^ {4,}|`)nsqueuectl ([^`|\n]+)")
	for _, match := range shown.FindAllStringSubmatch(text, -1) {
		args, _, _ := strings.Cut(match[1], "#")
		commands = append(commands, strings.Fields(args))
	}
	return commands
}
