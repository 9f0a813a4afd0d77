// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/internal/printable"
)

// Report is what [Check] has found, in the order of the checks.
type Report struct {
	Version  string        `json:"version"`
	Findings []api.Finding `json:"findings"`
}

// NewReport returns a report without findings.
func NewReport() *Report { return &Report{Version: api.Version(), Findings: []api.Finding{}} }

// Wrong returns how many things must be mended before a daemon can serve.
func (r *Report) Wrong() int { return r.count(api.FindingWrong) }

func (r *Report) count(result api.FindingResult) int {
	n := 0
	for i := range r.Findings {
		if r.Findings[i].Result == result {
			n++
		}
	}
	return n
}

// The names of the checks.
const (
	checkConfiguration = "configuration"
	checkRules         = "rules"
	checkState         = "state"
	checkCapabilities  = "capabilities"
	checkContainer     = "container"
	checkKernel        = "kernel"
	checkHook          = "hook"
)

// RefuseConfiguration notes what is wrong with the configuration at a place, such as
// the errors of [LoadConfig]: each that was joined is a finding.
func (r *Report) RefuseConfiguration(where string, err error) {
	for _, e := range split(err) {
		what := strings.TrimPrefix(e.Error(), "configuration "+where+": ")
		r.add(api.FindingWrong, checkConfiguration, where, what,
			"Correct it: docs/configuration.md explains each key and flag.")
	}
}

// split returns the errors that were joined, without what was written before them.
func split(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := errors.AsType[interface {
		error
		Unwrap() []error
	}](err)
	if !ok {
		return []error{err}
	}
	parts := joined.Unwrap()
	texts := make([]string, len(parts))
	for i, part := range parts {
		texts[i] = part.Error()
	}
	if joined.Error() != strings.Join(texts, "\n") { // a sentence about several errors
		return []error{err}
	}
	var all []error
	for _, part := range parts {
		all = append(all, split(part)...)
	}
	return all
}

func (r *Report) add(result api.FindingResult, check, where, what, remedy string) {
	r.Findings = append(r.Findings, api.Finding{
		Check: check, Result: result, Where: where, What: what, Remedy: remedy,
	})
}

func (r *Report) ok(check, where, format string, args ...any) {
	r.add(api.FindingOK, check, where, fmt.Sprintf(format, args...), "")
}

// The formats of [Report.Write].
const (
	ReportText = "text"
	ReportJSON = "json"
)

// Write prints the report, as lines for people or as one JSON object.
func (r *Report) Write(w io.Writer, format string) error {
	if format == ReportJSON {
		e := json.NewEncoder(printable.JSONWriter(w))
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	for i := range r.Findings {
		if err := writeFinding(w, &r.Findings[i]); err != nil {
			return err
		}
	}
	return nil
}

func writeFinding(w io.Writer, f *api.Finding) error {
	what := f.What
	if f.Where != "" {
		what = f.Where + ": " + what
	}
	_, err := fmt.Fprintf(w, "%-8s %-13s %s\n", f.Result, f.Check, printable.Line(what))
	if f.Remedy != "" && err == nil {
		_, err = fmt.Fprintf(w, "%23s-> %s\n", "", printable.Line(f.Remedy))
	}
	return err
}

// EnvCheck names an environment variable. Where it is text or json, [Run] does nothing
// but check: it prints the report of [Check] in that format to standard output, and
// returns [ErrUnfit] if anything is wrong. So every program that is built on this
// package can be asked, with the flags that it would run with.
const EnvCheck = "NSQUEUE_CHECK"

// ErrUnfit says that a check has found something wrong.
var ErrUnfit = errors.New("nsqueued could not serve here")

// checkInstead is Run where the environment asks for a check.
func checkInstead(c *Config, inspector inspect.Inspector, format string) error {
	if format != ReportText && format != ReportJSON {
		return fmt.Errorf("%s=%q: want text or json", EnvCheck, format)
	}
	r := Check(c, inspector)
	if err := r.Write(os.Stdout, format); err != nil {
		return err
	}
	return r.Err()
}

// Err returns [ErrUnfit], with the number of things that are wrong, or nil.
func (r *Report) Err() error {
	switch n := r.Wrong(); n {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("%w: 1 thing is wrong", ErrUnfit)
	default:
		return fmt.Errorf("%w: %d things are wrong", ErrUnfit, n)
	}
}
