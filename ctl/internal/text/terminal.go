// SPDX-License-Identifier: Apache-2.0

package text

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// TerminalWidth returns how many columns the terminal has that a file is; 0 if it
// is none.
func TerminalWidth(f *os.File) int {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	if size.Col == 0 { // such as a serial line, which does not know
		return LineWidth
	}
	return int(size.Col)
}

// TerminalHeight returns how many lines the terminal f has, 0 where it is none or
// does not know.
func TerminalHeight(f *os.File) int {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Row)
}

// ClearScreen moves to the beginning of a terminal and clears it.
const ClearScreen = "\x1b[H\x1b[2J"

// Top returns the lines that fit a terminal of height, with one for the cursor, and
// says how many are missing. A height of 0 is not known.
func Top(screen string, height int) string {
	// For a heading, a line, what is missing, and the cursor.
	const least = 4
	lines := strings.SplitAfter(screen, "\n") // the last one is empty
	if height < least || len(lines) <= height {
		return screen
	}
	shown := height - 2
	return strings.Join(lines[:shown], "") +
		fmt.Sprintf("... and %s\n", Plural(len(lines)-1-shown, "more line"))
}
