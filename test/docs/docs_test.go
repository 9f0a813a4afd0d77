// SPDX-License-Identifier: Apache-2.0

// Package docs keeps the documentation true where a program can tell.
package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

// Each test that docs/reliability.md names is there: "dir: TestA", "TestB".
func TestNamedTestsExist(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/reliability.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`(?:([a-z0-9/]+): )?(Test[A-Za-z0-9]+)`")
	found := 0
	dir := ""
	for _, match := range named.FindAllStringSubmatch(string(text), -1) {
		if match[1] != "" {
			dir = match[1]
		}
		found++
		if !hasTest(t, dir, match[2]) {
			t.Errorf("there is no %s in %s", match[2], dir)
		}
	}
	if found == 0 {
		t.Error("no test is named")
	}
}

func hasTest(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(source), "func "+name+"(t *testing.T) {") {
			return true
		}
	}
	return false
}
