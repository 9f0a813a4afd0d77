// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
)

// terminalWidth returns how many columns the terminal has that a file is; 0 if it
// is none.
func terminalWidth(f *os.File) int {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	if size.Col == 0 { // such as a serial line, which does not know
		return text.LineWidth
	}
	return int(size.Col)
}

// terminalHeight returns how many lines the terminal f has, 0 where it is none or
// does not know.
func terminalHeight(f *os.File) int {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Row)
}
