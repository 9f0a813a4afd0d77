// SPDX-License-Identifier: Apache-2.0

// Gen makes the files that follow from the chart. With --check it only names those that
// are not what they should be.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/nsqueue/nsqueue/test/chart/generate"
)

func main() {
	root := flag.String("root", "../..", "`directory` of the repository")
	check := flag.Bool("check", false, "change nothing; exit with 1 where a file is not right")
	flag.Parse()
	if err := run(*root, *check); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(root string, check bool) error {
	if !check {
		return generate.Write(root)
	}
	stale, err := generate.Stale(root)
	if err == nil && len(stale) > 0 {
		err = fmt.Errorf("not what the chart makes: %v; run make docs", stale)
	}
	return err
}
