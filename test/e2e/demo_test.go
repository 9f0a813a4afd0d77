// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestShownDemo runs the demo: each line that the README shows of its output is
// there. What differs each time is left out of the comparison, and so is what
// stands for the README's "…".
func TestShownDemo(t *testing.T) {
	shown := strings.Split(varying.ReplaceAllString(shownDemo(t), "*"), "\n")
	printed := strings.Split(varying.ReplaceAllString(runDemo(t), "*"), "\n")
	for _, line := range shown {
		var quoted []string
		for part := range strings.SplitSeq(line, "…") {
			quoted = append(quoted, regexp.QuoteMeta(part))
		}
		pattern := regexp.MustCompile("^" + strings.Join(quoted, ".*") + "$")
		if !slices.ContainsFunc(printed, pattern.MatchString) {
			t.Errorf("the demo does not print %q:\n%s", line, strings.Join(printed, "\n"))
		}
	}
}

// varying are container IDs, ages, how long something took, and addresses (host-local
// gives each pod the next one) in the demo's output.
var varying = regexp.MustCompile(
	`(?m)\b[0-9a-f]{12}\b|\b[0-9hm]*[0-9]s$|\b[0-9]+\.[0-9]+…? s$|\b10\.244\.7\.[0-9]+\b`)

// shownDemo returns the README's part of the demo's output.
func shownDemo(t *testing.T) string {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join(repository, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(readme), "```text\n")
	text, _, found := strings.Cut(rest, "\n```")
	if !found {
		t.Fatal("README.md shows no demo")
	}
	return text
}

func runDemo(t *testing.T) string {
	t.Helper()
	demo := filepath.Join(t.TempDir(), "demo")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", demo, "./test/demo")
	build.Dir = repository
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the demo: %v\n%s", err, out)
	}
	lists, err := filepath.Abs(filepath.Join(repository, "conflist"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), demo, "--hook", "nft", "--bin", binDir(t),
		"--conflist", filepath.Join(lists, flannelList))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("the demo: %v\n%s", err, out)
	}
	return strings.ReplaceAll(string(out), binDir(t)+"/", "bin/")
}
