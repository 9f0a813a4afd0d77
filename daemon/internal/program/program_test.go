// SPDX-License-Identifier: Apache-2.0

package program

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestExpand(t *testing.T) {
	s := Spec{Queue: 80, Queues: 2}
	pod := &Pod{Namespace: "agents", Name: "a$b", UID: "u", Netns: "/run/netns/x"}
	for text, want := range map[string]string{
		"-q": "-q", "": "", "${QUEUE}:${QUEUES}": "80:2", "$${QUEUE}": "${QUEUE}",
		"${POD_NAMESPACE}/${POD_NAME} ${POD_UID}": "agents/a$b u", "a${NETNS}": "a/run/netns/x",
	} {
		if got, err := s.expand(text, pod); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"$", "$QUEUE", "${", "${QUEUE", "${queue}", "${}", "a${POD}"} {
		if got, err := s.expand(text, pod); err == nil {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func FuzzExpand(f *testing.F) {
	f.Add("a${QUEUE}$$b")
	f.Fuzz(func(t *testing.T, text string) {
		s := Spec{Queue: 80, Queues: 1}
		got, err := s.expand(text, &Pod{})
		if err == nil && !strings.Contains(text, "$") && got != text {
			t.Errorf("%q became %q", text, got)
		}
	})
}

func TestValidate(t *testing.T) {
	valid := Spec{Command: []string{"/bin/true", "${QUEUE}"}, Queue: 80, Queues: 1}
	if err := valid.Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Spec){
		"no command":          func(s *Spec) { s.Command = nil },
		"relative":            func(s *Spec) { s.Command = []string{"true"} },
		"no queues":           func(s *Spec) { s.Queues = 0 },
		"too many queues":     func(s *Spec) { s.Queue, s.Queues = 65535, 2 },
		"unknown placeholder": func(s *Spec) { s.Command = []string{"/bin/true", "${X}"} },
		"in a variable":       func(s *Spec) { s.Env = []string{"A=${X}"} },
	} {
		s := valid
		change(&s)
		if s.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Another digest means another program.
func TestDigest(t *testing.T) {
	base := Spec{Command: []string{"/bin/true"}, Queue: 80, Queues: 1}
	seen := map[string]string{base.Digest(): "nothing"}
	for name, change := range map[string]func(*Spec){
		"command":      func(s *Spec) { s.Command = []string{"/bin/false"} },
		"argument":     func(s *Spec) { s.Command = append(slices.Clone(s.Command), "x") },
		"environment":  func(s *Spec) { s.Env = []string{"A=1"} },
		"queue":        func(s *Spec) { s.Queue++ },
		"user":         func(s *Spec) { s.UID++ },
		"capabilities": func(s *Spec) { s.Capabilities = []uintptr{1} },
		"memory":       func(s *Spec) { s.Limits.Memory = 1 },
	} {
		s := base
		change(&s)
		if before, ok := seen[s.Digest()]; ok {
			t.Errorf("%s has the digest of %s", name, before)
		}
		seen[s.Digest()] = name
	}
}

func TestParseStart(t *testing.T) {
	const stat = "17 (a) b) S 1 17 17 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 4711 1000 10"
	if got, err := parseStart([]byte(stat)); err != nil || got != 4711 {
		t.Errorf("%d, %v, want 4711", got, err)
	}
	for end := range len(stat) - len("11 1000 10") {
		if got, err := parseStart([]byte(stat[:end])); err == nil && got == 4711 {
			t.Errorf("%q: %d", stat[:end], got)
		}
	}
	if _, err := startOf(os.Getpid()); err != nil {
		t.Error(err)
	}
}

func FuzzParseStart(f *testing.F) {
	f.Add([]byte("1 (x) S 1 1"))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = parseStart(b) })
}

func TestParseNetlink(t *testing.T) {
	const text = `sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode
000000006d0ef8a7 12  4711       00000000 0        0        0     2        0        31415
000000006d0ef8a8 0   4711       00000000 0        0        0     2        0        31416
000000006d0ef8a9 12  4294963201 00000000 0        0        0     2        0        31417
`
	want := map[uint32]uint64{4711: 31415, 4294963201: 31417}
	if diff := cmp.Diff(want, parseNetlink([]byte(text))); diff != "" {
		t.Error(diff)
	}
}

func FuzzParseNetlink(f *testing.F) {
	f.Add([]byte("x 12 1 0 0 0 0 0 0 9\n"))
	f.Fuzz(func(_ *testing.T, b []byte) { parseNetlink(b) })
}

// What a program prints is cut and escaped, line by line.
func TestLines(t *testing.T) {
	output, theirs, err := outputPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	text := "one\n\ntwo\x1b[31m\r\n" + strings.Repeat("x", 3*MaxLine) + "\nlast"
	if _, err := theirs.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := theirs.Close(); err != nil {
		t.Fatal(err)
	}
	var got []string
	Lines(output, func(line string) { got = append(got, line) })
	want := []string{"one", `two\x1b[31m`, strings.Repeat("x", MaxLine) + "…", "last"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A program that prints while nobody reads is not ended by it.
func TestOutputWithoutReader(t *testing.T) {
	output, theirs, err := outputPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	if err := output.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := theirs.WriteString("x"); err != nil {
		t.Error(err)
	}
}
