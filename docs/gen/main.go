// SPDX-License-Identifier: Apache-2.0

// Gen writes the references of the configuration and of the rules. What the first one
// says of a field is the field's comment, defaults are those of the code, and so is what
// is accepted: it is tried out. What it says of a flag is what --help says. The second
// one has its tables from what the rules' compiler declares.
//
//go:generate go run .
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// root is the repository, from the directory that go generate runs in.
const root = "../.."

// page is the reference of the configuration.
const page = "docs/configuration.md"

func main() {
	if err := write(); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func write() error {
	for path, render := range pages() {
		text, err := render()
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(root, path), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// pages are those that are written.
func pages() map[string]func() ([]byte, error) {
	return map[string]func() ([]byte, error){page: render, rulesPage: renderRules}
}
