// SPDX-License-Identifier: Apache-2.0

// Package docs keeps the documentation true where a program can tell.
package docs

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/test/docs/shown"
)

const root = "../.."

// pages returns the documentation: paths in the repository, with their texts.
func pages(t *testing.T) map[string]string {
	t.Helper()
	paths, err := shown.Pages(root)
	if err != nil {
		t.Fatal(err)
	}
	texts := make(map[string]string)
	for _, path := range paths {
		texts[path] = read(t, path)
	}
	return texts
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Each test that a page names is there: "dir: TestA", "TestB", and so is the case
// "TestC/name".
func TestNamedTestsExist(t *testing.T) {
	named := regexp.MustCompile("`(?:([a-z0-9/]+): )?((?:Test|Fuzz)[A-Za-z0-9]+)(?:/([^`]+))?`")
	found := make(map[string]int)
	for page, text := range pages(t) {
		dir := ""
		for _, match := range named.FindAllStringSubmatch(text, -1) {
			if match[1] != "" {
				dir = match[1]
			}
			found[page]++
			if !hasTest(t, dir, match[2]) {
				t.Errorf("%s: there is no %s in %s", page, match[2], dir)
			}
			if match[3] != "" && !hasCase(t, dir, match[3]) {
				t.Errorf("%s: %s in %s has no case %q", page, match[2], dir, match[3])
			}
		}
	}
	for _, page := range []string{"docs/reliability.md", "docs/security.md", "docs/evasions.md"} {
		if found[page] == 0 {
			t.Errorf("%s names no test", page)
		}
	}
}

func hasTest(t *testing.T, dir, name string) bool {
	t.Helper()
	return contains(t, filepath.Join(root, dir, "*_test.go"),
		regexp.MustCompile(`(?m)^func `+name+`\(\w+ \*testing\.[TF]\) \{$`))
}

// hasCase looks for the name of a case in the package, and in that of the
// contract that it is held to.
func hasCase(t *testing.T, dir, name string) bool {
	t.Helper()
	quoted := regexp.MustCompile(regexp.QuoteMeta(`"` + name + `"`))
	return contains(t, filepath.Join(root, dir, "*_test.go"), quoted) ||
		contains(t, filepath.Join(root, dir, "../hooktest/*.go"), quoted)
}

// contains reports whether one of the files does.
func contains(t *testing.T, pattern string, text *regexp.Regexp) bool {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if text.Match(source) {
			return true
		}
	}
	return false
}

// The picture was made of the source that is there. What the programs that draw
// it make of the source differs between their versions.
func TestPictureIsOfItsSource(t *testing.T) {
	sum := fmt.Sprintf("architecture.dot has the SHA-256 %x ",
		sha256.Sum256([]byte(read(t, "docs/architecture.dot"))))
	if !strings.Contains(read(t, "docs/architecture.svg"), sum) {
		t.Errorf("docs/architecture.svg does not say %q: run `make docs`", sum)
	}
}

// Each link to another file leads to one, and to a heading that it has.
func TestLinksLeadSomewhere(t *testing.T) {
	texts := pages(t)
	links := 0
	for page, text := range texts {
		for _, match := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(text, -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			links++
			file, heading, _ := strings.Cut(match[1], "#")
			target := page
			if file != "" {
				target = filepath.Join(filepath.Dir(page), file)
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s: link to %s: %v", page, match[1], err)
			}
			if heading != "" && !hasHeading(texts[target], heading) {
				t.Errorf("%s: %s has no heading #%s", page, target, heading)
			}
		}
	}
	if links == 0 {
		t.Error("there are no links")
	}
}

// hasHeading makes of each heading what GitHub makes of it.
func hasHeading(text, want string) bool {
	for _, match := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		plain := regexp.MustCompile(`[^\w -]`).ReplaceAllString(strings.ToLower(match[1]), "")
		if strings.ReplaceAll(plain, " ", "-") == want {
			return true
		}
	}
	return false
}

// The index has all pages of its directory.
func TestIndexIsComplete(t *testing.T) {
	index := read(t, "docs/README.md")
	for page := range pages(t) {
		name := filepath.Base(page)
		if filepath.Dir(page) == "docs" && name != "README.md" && !strings.Contains(index, "]("+name+")") {
			t.Errorf("docs/README.md has no link to %s", name)
		}
	}
}
