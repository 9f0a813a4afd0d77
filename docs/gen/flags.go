// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
)

// flagTable returns the flags of nsqueued, or of a command of it. Where there are
// keys, it says which of them a flag is for.
func flagTable(keys []key, command ...string) (string, error) {
	cmd := exec.Command("go", append(append([]string{"run", "./daemon"}, command...), "--help")...)
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		if e, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("%w: %s", err, e.Stderr)
		}
		return "", fmt.Errorf("ask nsqueued for its flags: %w", err)
	}
	flags := parseFlags(string(out))
	if len(flags) == 0 {
		return "", fmt.Errorf("nsqueued names no flags:\n%s", out)
	}
	rows := [][]string{{"flag", "default", "meaning"}}
	if keys != nil {
		rows[0] = []string{"flag", "key", "default", "meaning"}
	}
	for _, f := range flags {
		row := []string{code(f.name)}
		if keys != nil {
			row = append(row, keyOf(keys, f.name))
		}
		rows = append(rows, append(row, f.value, f.usage))
	}
	return table(rows), nil
}

// flag is one that --help shows.
type flag struct{ name, value, usage string }

// parseFlags reads what --help prints, but for the flags that all commands have.
func parseFlags(help string) (flags []flag) {
	_, help, _ = strings.Cut(help, "\nFlags:\n")
	shown := regexp.MustCompile(
		`(?m)^ {2}(?:-\w, | {4})--([a-z-]+)(?: (\S+))? {2,}(.*?)(?: \(default:? (.*)\))?$`)
	for _, m := range shown.FindAllStringSubmatch(help, -1) {
		if m[1] == "help" || m[1] == "version" {
			continue
		}
		f := flag{name: "--" + m[1], value: "none", usage: m[3]}
		switch {
		case m[2] == "":
			f.value = code("false")
		case m[4] != "" && strings.Contains(m[4], " "):
			f.value = m[4]
		case m[4] != "":
			f.value = code(strings.Trim(m[4], `"`))
		}
		flags = append(flags, f)
	}
	return flags
}

// keyOf returns the key that a flag is for: adopt.existing for --adopt-existing.
func keyOf(keys []key, name string) string {
	plain := strings.NewReplacer("-", "", ".", "")
	for _, k := range keys {
		if strings.EqualFold(plain.Replace(name), plain.Replace(k.name)) {
			return code(k.name)
		}
	}
	return ""
}
