// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// screen writes the transcript: explanations as they are, commands behind a
// dollar sign, and their output indented. It may be used concurrently.
type screen struct {
	mu     sync.Mutex
	out    io.Writer
	colour bool
}

func newScreen(f *os.File) *screen {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return &screen{out: f, colour: err == nil && os.Getenv("NO_COLOR") == ""}
}

const (
	bold  = "1"
	dim   = "2"
	red   = "31"
	green = "32"
)

func (s *screen) print(style, text string) {
	if s.colour && style != "" {
		text = "\x1b[" + style + "m" + text + "\x1b[0m"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintln(s.out, text)
}

// title begins a step.
func (s *screen) title(number int, text string) {
	s.print(bold, fmt.Sprintf("\n%d. %s", number, text))
}

// say explains.
func (s *screen) say(format string, args ...any) { s.print("", fmt.Sprintf(format, args...)) }

// note reports progress.
func (s *screen) note(format string, args ...any) {
	s.print(dim, "   "+fmt.Sprintf(format, args...))
}

// shown ends a step that showed what it should.
func (s *screen) shown(format string, args ...any) {
	s.print(green, "=> "+fmt.Sprintf(format, args...))
}

func (s *screen) fail(err error) { s.print(red, "demo: "+err.Error()) }

// run shows a command and its output as it comes, and returns the output.
func (s *screen) run(name string, args ...string) (string, error) {
	s.print("", "   $ "+commandLine(name, args))
	var out strings.Builder
	err := s.follow(exec.Command(name, args...), func(line string) {
		out.WriteString(line + "\n")
	})
	if err != nil {
		err = fmt.Errorf("run %s: %w", name, err)
	}
	return out.String(), err
}

// follow runs a command, shows each line of its output, and hands it to each.
func (s *screen) follow(cmd *exec.Cmd, each func(line string)) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		return err
	}
	for lines := bufio.NewScanner(r); lines.Scan(); {
		s.print("", strings.TrimRight("   "+lines.Text(), " "))
		each(lines.Text())
	}
	return cmd.Wait()
}

func commandLine(name string, args []string) string {
	words := []string{name}
	for _, a := range args {
		if strings.ContainsAny(a, " *?$'\"") {
			a = "'" + a + "'"
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}
