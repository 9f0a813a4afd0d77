// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// leakGrace is how long goroutines may take to end after the last test.
const leakGrace = time.Minute

// Main runs the package's tests inside a throw-away node, then fails if they
// left descriptors or goroutines behind. It is called as TestMain's only
// statement and does not return.
func Main(m *testing.M) {
	sendIfAsked()
	if err := Enter(); err != nil {
		fmt.Fprintln(os.Stderr, "nstest:", err)
		os.Exit(1)
	}
	before := holdings()
	code := m.Run()
	var left []string
	Poll(leakGrace, func() bool {
		left = holdings().since(before)
		return len(left) == 0
	})
	for _, l := range left {
		fmt.Fprintln(os.Stderr, "nstest: left behind:", l)
	}
	if code == 0 && len(left) > 0 {
		code = 1
	}
	os.Exit(code)
}

// held is what a process holds that a test could leak.
type held struct {
	files      map[string]string // descriptor number to target
	goroutines map[string]string // goroutine ID to stack
}

func holdings() held {
	// The first descriptor that can be polled makes the runtime open its own
	// ones. Provoke that, so that they are there at both times.
	if r, w, err := os.Pipe(); err == nil {
		_ = r.Close()
		_ = w.Close()
	}
	return held{files: openFiles(), goroutines: goroutines()}
}

// since lists what h holds and before did not.
func (h held) since(before held) []string {
	var left []string
	for fd, target := range h.files {
		if before.files[fd] != target {
			left = append(left, "descriptor "+fd+": "+target)
		}
	}
	for id, stack := range h.goroutines {
		if _, ok := before.goroutines[id]; !ok {
			left = append(left, stack)
		}
	}
	return left
}

func openFiles() map[string]string {
	files := make(map[string]string)
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return files
	}
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name()))
		// The directory's own descriptor is closed by now.
		if err == nil {
			files[e.Name()] = target
		}
	}
	return files
}

// goroutines returns the stacks of all goroutines but this one and the one
// that the runtime keeps for signals.
func goroutines() map[string]string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	stacks := strings.Split(string(buf), "\n\n")
	found := make(map[string]string)
	for _, stack := range stacks[1:] {
		if strings.Contains(stack, "os/signal.loop") {
			continue
		}
		// It begins with "goroutine 7 [select]:".
		if words := strings.Fields(stack); len(words) > 1 {
			found[words[1]] = stack
		}
	}
	return found
}
