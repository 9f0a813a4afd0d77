// SPDX-License-Identifier: Apache-2.0

// Package marks builds a program that reads an NFQUEUE as the manual of libnetfilter_queue
// has it, for tests of programs that know nothing of nsqueue.
package marks

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed c/marks.c
var source string

// Build compiles the program into a directory, and returns its path. Everybody may execute
// it, if the directories above may be passed.
func Build(dir string) (string, error) {
	path := filepath.Join(dir, "a.out")
	cmd := exec.Command("gcc", "-O2", "-Wall", "-Wextra", "-x", "c", "-o", path, "-",
		"-lnetfilter_queue")
	cmd.Stdin = strings.NewReader(source)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile marks.c: %w: %s", err, out)
	}
	return path, os.Chmod(path, 0o755)
}
