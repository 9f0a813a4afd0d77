// SPDX-License-Identifier: Apache-2.0

// Package shown finds the commands that the documentation shows, for the tests
// that run them.
package shown

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Pages returns the paths of the documentation below the root of the repository,
// in the order in which a user reads it.
func Pages(root string) ([]string, error) {
	found, err := filepath.Glob(filepath.Join(root, "docs/*.md"))
	if err != nil {
		return nil, err
	}
	pages := []string{"README.md"}
	for _, path := range found {
		pages = append(pages, "docs/"+filepath.Base(path))
	}
	pages = append(pages, "conflist/README.md", "kmod/README.md",
		"CONTRIBUTING.md", "RELEASING.md", "SECURITY.md")
	for _, page := range pages {
		if _, err := os.Stat(filepath.Join(root, page)); err != nil {
			return nil, err
		}
	}
	return pages, nil
}

// inline is a command within a sentence: the name of a program, and more.
var inline = regexp.MustCompile("`((?:nsqueuectl|nsqueued|systemctl|make|curl|modprobe|insmod) " +
	"[^`]+)`")

// Commands returns the command lines that a page shows, in their order: all that
// is further in, and in sentences what begins with a program that users run. A
// line that occurs again is not repeated.
func Commands(text string) []string {
	var all []string
	fenced, continued := false, false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch indented := strings.HasPrefix(line, "    "); {
		case strings.HasPrefix(line, "```"):
			fenced = !fenced
		case fenced:
		case continued:
			all[len(all)-1] += " " + command(line)
		case indented:
			all = append(all, command(line))
		default:
			for _, match := range inline.FindAllStringSubmatch(line, -1) {
				all = append(all, match[1])
			}
			continue
		}
		continued = !fenced && strings.HasSuffix(line, `\`)
	}
	return unique(all)
}

// command strips a line of what is no part of the command.
func command(line string) string {
	line, _, _ = strings.Cut(line, " # ")
	return strings.TrimSpace(strings.TrimSuffix(line, `\`))
}

func unique(all []string) (once []string) {
	for _, s := range all {
		if s != "" && !slices.Contains(once, s) {
			once = append(once, s)
		}
	}
	return once
}
