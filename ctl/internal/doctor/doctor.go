// SPDX-License-Identifier: Apache-2.0

// Package doctor checks whether nsqueue works on this node, and says what to do
// about each problem. It changes nothing. It asks the daemon, and reads files and
// /proc from where it runs; a check that cannot be made from there is unknown.
package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// Result of a check.
type Result = api.FindingResult

// The results.
const (
	OK      = api.FindingOK
	Warning = api.FindingWarning
	Wrong   = api.FindingWrong
	Unknown = api.FindingUnknown
)

// Finding is what a check has found.
type Finding = api.Finding

// Report is everything that was found, in the order of the checks.
type Report struct {
	Findings []Finding `json:"findings"`
}

// Count returns how many findings have the result.
func (r *Report) Count(result Result) int {
	n := 0
	for i := range r.Findings {
		if r.Findings[i].Result == result {
			n++
		}
	}
	return n
}

// Options say what is examined. All but Runtimes, DropIns, Checking, Proc and
// Root are required.
type Options struct {
	Socket  string // of the daemon
	BinDir  string // where the runtime finds CNI plugins
	ConfDir string // where it finds CNI configurations
	Version string // of the program that asks
	// Runtimes are the container runtimes whose programs are seen, and DropIns says
	// that all of them read plugins that are in files of their own.
	Runtimes []string
	DropIns  bool
	// Now is the time since boot.
	Now func() time.Duration
	// InPod: the program that asks runs in a pod of Kubernetes.
	InPod bool
	// Checking, where it is set, is called with the name of each check before it.
	Checking func(check string)
	// Proc is where the proc file system is mounted; empty means /proc.
	Proc string
	// Root is before /boot, /lib and /sys; empty means /.
	Root string
}

// examination is one examination: what is known so far.
type examination struct {
	Options
	client  *api.Client
	reached bool
	status  api.Status // where the daemon was reached
	peer    peer
	report  Report
}

// Examine makes all checks. They need the daemon's answers, or do without.
func Examine(ctx context.Context, o Options) Report {
	o.Proc, o.Root = cmp.Or(o.Proc, "/proc"), cmp.Or(o.Root, "/")
	e := &examination{Options: o, client: api.NewClient(o.Socket)}
	for _, c := range e.checks() {
		if c.asksDaemon && !e.reached {
			continue
		}
		if e.Checking != nil {
			e.Checking(c.name)
		}
		c.run(ctx)
	}
	return e.report
}

// check is one of the checks of an examination.
type check struct {
	name       string
	run        func(context.Context)
	asksDaemon bool // and cannot be made without its answers
}

// checks returns all of them in their order: the first says whether the daemon
// answers.
func (e *examination) checks() []check {
	local := func(f func()) func(context.Context) { return func(context.Context) { f() } }
	return []check{
		{checkDaemon, e.daemon, false},
		{checkVersions, e.versions, false},
		{checkChain, local(e.chain), false},
		{checkPermissions, local(e.permissions), false},
		{checkSpool, local(e.spool), false},
		{checkKernel, local(e.kernel), false},
		{checkHook, local(e.hook), true},
		{checkSupervisor, local(e.supervisor), true},
		{checkHandover, local(e.handover), true},
		{checkContainer, local(e.container), true},
		{checkCPU, local(e.cpuLimit), true},
		{checkDescriptors, local(e.descriptors), true},
		{checkBuffers, local(e.buffers), true},
		{checkRules, local(e.rules), true},
		{checkLabels, local(e.labels), true},
		{checkInspectors, local(e.inspectors), true},
		{checkNames, e.serverNames, true},
		{checkRejects, local(e.rejects), true},
		{checkProblems, local(e.problems), true},
		{checkAttachments, e.attachments, true},
		{checkMarks, e.marks, true},
	}
}

func (e *examination) add(result Result, check, where, what, remedy string) {
	e.report.Findings = append(e.report.Findings, Finding{
		Check: check, Result: result, Where: where, What: what, Remedy: remedy,
	})
}

func (e *examination) ok(check, where, format string, args ...any) {
	e.add(OK, check, where, fmt.Sprintf(format, args...), "")
}

// notChecked reports a check that could not be made because of an error.
func (e *examination) notChecked(check, where string, err error) {
	remedy := "Run nsqueuectl on the node itself, outside of containers."
	switch {
	case errors.Is(err, fs.ErrPermission):
		remedy = "Run nsqueuectl as root."
	case check == checkVersions || check == checkChain:
		remedy = "Name the runtime's directories with --profile, or --conf-dir and --bin-dir. " +
			"In a container, run nsqueuectl on the node itself."
	}
	e.add(Unknown, check, where, "not checked: "+err.Error(), remedy)
}
