// SPDX-License-Identifier: Apache-2.0

//go:build vm

package vm

import (
	"regexp"
	"strconv"
	"strings"
)

// A result is one top-level test of one program.
type result struct {
	program string
	test    string
	outcome string // PASS, FAIL, SKIP, or "" when it began and never ended
	output  []string
}

// A report is what the guest's init and its programs have said.
type report struct {
	results []*result
	exits   map[string]int // program → exit code
	done    bool           // the init came to its end
	program string
	current *result
}

var (
	initLine = regexp.MustCompile(`^@@ (run|exit|done) ?(\S*) ?(-?\d*)$`)
	runLine  = regexp.MustCompile(`^=== RUN   ([^/\s]+)$`)
	endLine  = regexp.MustCompile(`^--- (PASS|FAIL|SKIP): ([^/\s]+) `)
)

func newReport() *report { return &report{exits: map[string]int{}} }

// add takes the next line of the guest. The caller shows it.
func (r *report) add(line string) {
	if m := initLine.FindStringSubmatch(line); m != nil {
		r.control(m[1], m[2], m[3])
		return
	}
	if m := runLine.FindStringSubmatch(line); m != nil {
		r.current = &result{program: r.program, test: m[1]}
		r.results = append(r.results, r.current)
		return
	}
	if m := endLine.FindStringSubmatch(line); m != nil {
		for _, res := range r.results {
			if res.program == r.program && res.test == m[2] {
				res.outcome = m[1]
			}
		}
	}
	if r.current != nil {
		r.current.output = append(r.current.output, line)
	}
}

func (r *report) control(verb, program, code string) {
	r.current = nil
	switch verb {
	case "run":
		r.program = program
	case "exit":
		exit, err := strconv.Atoi(code)
		if err != nil {
			exit = -1
		}
		r.exits[program] = exit
	case "done":
		r.done = true
	}
}

// of returns the results of one program.
func (r *report) of(program string) []*result {
	var results []*result
	for _, res := range r.results {
		if res.program == program {
			results = append(results, res)
		}
	}
	return results
}

func (res *result) text() string { return strings.Join(res.output, "\n") }
