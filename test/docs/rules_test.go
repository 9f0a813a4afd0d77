// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/rules"
)

// rulesDirectory is where the documentation puts files of rules.
const rulesDirectory = "/etc/nsqueue/rules.d"

// block is a part of a page: a fenced one, or a command line.
type block struct {
	language, text string // a command line has no language
}

// blocks returns the fenced parts of a page and its command lines, in their order.
func blocks(page string) (list []block) {
	fenced := false
	for line := range strings.Lines(page) {
		language, fence := strings.CutPrefix(line, "```")
		last := len(list) - 1
		switch {
		case fence && !fenced:
			list = append(list, block{language: strings.TrimSpace(language)})
			fenced = true
		case fence:
			fenced = false
		case fenced:
			list[last].text += line
		case last >= 0 && strings.HasSuffix(list[last].text, "\\\n") && list[last].language == "":
			list[last].text += line
		case strings.HasPrefix(line, "    "):
			list = append(list, block{text: line})
		}
	}
	return list
}

// All sets of rules that the documentation shows are right.
func TestShownSetsOfRules(t *testing.T) {
	sets := 0
	for page, text := range pages(t) {
		for _, b := range blocks(text) {
			if b.language != "yaml" || !strings.Contains(b.text, "kind: RuleSet\n") {
				continue
			}
			sets++
			file := rules.File{Name: page, Data: []byte(b.text)}
			if _, err := (&rules.Loader{Labels: true}).Compile(nil, file); err != nil {
				t.Errorf("%v, in\n%s", err, b.text)
			}
		}
	}
	if sets == 0 {
		t.Error("no set of rules is shown")
	}
}

// Commands about rules that need no node say what the documentation shows. A page's sets
// of rules are in the directory when the first one runs: those whose first line is a
// comment with the path.
func TestShownRules(t *testing.T) {
	ctl := filepath.Join(t.TempDir(), "nsqueuectl")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", ctl, "./ctl")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build nsqueuectl: %v\n%s", err, out)
	}
	for page, text := range pages(t) {
		t.Run(page, func(t *testing.T) {
			dir := t.TempDir()
			list := blocks(text)
			for i, b := range list {
				if name, found := strings.CutPrefix(b.text, "# "+rulesDirectory+"/"); found {
					name, content, _ := strings.Cut(name, "\n")
					if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				if b.language == "" && strings.Contains(b.text, "nsqueuectl rules ") &&
					i+1 < len(list) && list[i+1].language == "text" {
					runShownRules(t, ctl, dir, b.text, list[i+1].text)
				}
			}
		})
	}
}

// runShownRules runs a command and compares what it says.
func runShownRules(t *testing.T, ctl, dir, line, want string) {
	t.Helper()
	line = strings.ReplaceAll(line, rulesDirectory, dir)
	line = strings.ReplaceAll(line, "nsqueuectl rules", ctl+" rules")
	cmd := exec.CommandContext(t.Context(), "bash", "-c", line)
	out, err := cmd.CombinedOutput()
	got := strings.ReplaceAll(string(out), dir, rulesDirectory)
	if got != want {
		t.Errorf("%s says (%v)\n%s\nand not\n%s", line, err, got, want)
	}
}
