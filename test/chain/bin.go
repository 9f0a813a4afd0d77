// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"os"
	"path/filepath"
	"testing"
)

// BinEnv is the variable that says where the built and fetched programs are.
const BinEnv = "NSQUEUE_BIN"

// BinDir returns the directory of the built and fetched programs: what [BinEnv]
// says, else bin/ of the source tree. The test fails if one of the programs,
// which are named relative to the directory, is missing.
func BinDir(tb testing.TB, programs ...string) string {
	tb.Helper()
	dir := os.Getenv(BinEnv)
	if dir == "" {
		dir = filepath.Join(sourceTree(tb), "bin")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		tb.Fatal(err)
	}
	for _, name := range programs {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			tb.Fatalf("%v: start the tests with make, which builds and fetches programs first", err)
		}
	}
	return dir
}

// sourceTree returns the directory of go.mod, at or above the test's own.
func sourceTree(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			tb.Fatalf("no source tree above this directory: set %s", BinEnv)
		}
		dir = parent
	}
}
