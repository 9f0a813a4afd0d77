// SPDX-License-Identifier: Apache-2.0

// Gen writes the configuration reference. What it says of a field is the field's
// comment, defaults are those of the code, and so is what is accepted: it is
// tried out. What it says of a flag is what --help says.
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

// page is what is written.
const page = "docs/configuration.md"

func main() {
	if err := write(); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func write() error {
	text, err := render()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, page), text, 0o644)
}
