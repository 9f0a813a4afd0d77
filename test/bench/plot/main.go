// SPDX-License-Identifier: Apache-2.0

// Plot draws the benchmark's report as an SVG, and writes its tables into a
// Markdown file between two marker lines.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/nsqueue/nsqueue/test/bench/report"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "plot:", err)
		os.Exit(1)
	}
}

func run() error {
	in := flag.String("json", "", "report `file` of the benchmark")
	svg := flag.String("svg", "", "SVG `file` to write")
	markdown := flag.String("markdown", "", "Markdown `file` to update")
	flag.Parse()
	if *in == "" || flag.NArg() > 0 {
		return errors.New("usage: plot --json FILE [--svg FILE] [--markdown FILE]")
	}
	r, err := report.Read(*in)
	if err != nil {
		return err
	}
	if *svg != "" {
		if err := os.WriteFile(*svg, draw(r), 0o644); err != nil {
			return err
		}
	}
	if *markdown == "" {
		return nil
	}
	return updateMarkdown(*markdown, r)
}
