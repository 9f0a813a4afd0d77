// SPDX-License-Identifier: Apache-2.0

//go:build vm

// Package vm boots the kernels that the module claims to support and runs test
// programs in them as root of a machine of their own:
//
//	go test -count=1 -tags vm -v ./test/vm              # all kernels
//	go test -count=1 -tags vm -v ./test/vm -run 'TestKernel/6.1$'
//
// (-count=1: what the guests run is no file that go test would miss.)
//
// NSQUEUE_VM_RUN is the -test.run of the guests' programs, NSQUEUE_VM_KEEP a
// folder that keeps the image and the kernel log, NSQUEUE_VM_QEMU more arguments
// of QEMU ("-icount shift=0": the guest's clock counts instructions, which makes
// TestCost exact whatever else the machine does). NSQUEUE_VM_TREE is a kernel
// source tree, configured with debug.config and built; then TestTree runs the
// same programs in that kernel, with five times the time.
package vm

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// kernels are the series that README.md and dkms.conf claim.
var kernels = []string{"6.1", "6.12"}

// A program is a Go test binary that a guest runs. It is built static.
type program struct {
	Name    string        // of the binary, and in the report
	Package string        // import path, or relative to this folder
	Tags    string        // build tags
	Timeout time.Duration // of the whole program, in the guest
	Args    []string      // more arguments
	Env     []string      // more variables
}

// programs run in this order in each kernel; a new one is one line.
var programs = []program{
	{Name: "kmod.test", Package: "./guest/kmod", Tags: "vmguest", Timeout: 4 * time.Minute},
	{Name: "hook-kmod.test", Package: hooks + "kmod", Tags: "vmguest", Timeout: 3 * time.Minute},
	{Name: "hook-nft.test", Package: hooks + "nft", Timeout: 3 * time.Minute},
	{
		Name: "e2e-kmod.test", Package: "../e2e", Tags: "vmguest", Timeout: 4 * time.Minute,
		Env: e2eEnv("kmod"), Args: e2eArgs,
	},
	{
		Name: "e2e-nft.test", Package: "../e2e", Timeout: 4 * time.Minute,
		Env: e2eEnv("nft"), Args: e2eArgs,
	},
}

const hooks = "../../daemon/internal/hook/"

// What depends on the hook, of the end-to-end tests; the others take long and
// ask the kernel nothing new.
var e2eArgs = []string{
	"-test.run=^Test(Life|PodCannotRemoveTheHook|DaemonIsAway|GarbageCollection|ModuleIsUnloaded)$",
}

func e2eEnv(hook string) []string {
	return []string{
		"NSQUEUE_HOOK=" + hook,
		"NSQUEUE_BIN=/" + guestBin, "NSQUEUE_CONFLISTS=/" + guestLists,
	}
}

// tools are Go programs that are put into /bin of the guest, name → package.
var tools = map[string]string{
	"vm-init": "./init",
}

// bootTime is what a guest may need beside its programs.
const bootTime = 60 * time.Second

func TestKernel(t *testing.T) {
	bin := build(t)
	for _, series := range kernels {
		t.Run(series, func(t *testing.T) {
			t.Parallel() // a guest has one processor's worth of emulation
			k, err := fetch(series)
			if err != nil {
				t.Fatal(err)
			}
			testKernel(t, k, bin)
		})
	}
}

// TestTree is for a kernel that no package has; without one it has no subject.
func TestTree(t *testing.T) {
	tree := os.Getenv("NSQUEUE_VM_TREE")
	if tree == "" {
		return
	}
	k, err := fromTree(tree)
	if err != nil {
		t.Fatal(err)
	}
	for i := range programs {
		programs[i].Timeout *= 5
	}
	testKernel(t, k, build(t))
}

// build compiles everything that runs in the guests, once for all kernels.
func build(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	bin := map[string]string{}
	for name, pkg := range tools {
		bin[name] = goTool(t, dir, name, "build", "-tags", "vmguest", pkg)
	}
	for _, p := range programs {
		bin[p.Name] = goTool(t, dir, p.Name, "test", "-c", "-tags", p.Tags, p.Package)
	}
	return bin
}

func goTool(t *testing.T, dir, name, verb string, args ...string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	cmd := exec.Command("go", append([]string{verb, "-o", path}, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s %v: %v\n%s", verb, args, err, out)
	}
	return path
}

func testKernel(t *testing.T, k *kernel, bin map[string]string) {
	series := k.series
	start := time.Now()
	ko := buildModule(t, k)
	dir := workDir(t, series)
	g := &guest{k.vmlinuz, filepath.Join(dir, "initrd"), filepath.Join(dir, "kernel.log")}
	if err := k.writeImage(g.initrd, ko, bin, withRunFilter(programs)); err != nil {
		t.Fatal(err)
	}
	progress(series, "image made, %s", time.Since(start).Round(time.Second))
	rep, runErr := boot(t, g, series)
	progress(series, "guest stopped, %s", time.Since(start).Round(time.Second))
	judge(t, g, rep, runErr)
}

func buildModule(t *testing.T, k *kernel) string {
	t.Helper()
	out, err := filepath.Abs(filepath.Join("../../kmod/build", k.release))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("make", "-s", "-C", "../../kmod", "KDIR="+k.headers, "BUILD="+out)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build nsqueue.ko for %s: %v\n%s", k.release, err, text)
	}
	return filepath.Join(out, "nsqueue.ko")
}

func workDir(t *testing.T, series string) string {
	t.Helper()
	keep := os.Getenv("NSQUEUE_VM_KEEP")
	if keep == "" {
		return t.TempDir()
	}
	dir := filepath.Join(keep, series)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func withRunFilter(all []program) []program {
	filter := os.Getenv("NSQUEUE_VM_RUN")
	if filter == "" {
		return all
	}
	var filtered []program
	for _, p := range all {
		p.Args = append(p.Args[:len(p.Args):len(p.Args)], "-test.run="+filter)
		filtered = append(filtered, p)
	}
	return filtered
}

// boot runs the guest to its end and shows its lines as they come.
func boot(t *testing.T, g *guest, series string) (*report, error) {
	limit := bootTime
	for _, p := range programs {
		limit += p.Timeout
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	rep := newReport()
	err := g.run(ctx, func(line string) {
		progress(series, "%s", line)
		rep.add(line)
	})
	return rep, err
}

// progress goes around the test log, which shows nothing until a test ends.
func progress(series, format string, args ...any) {
	fmt.Fprintf(os.Stderr, "[%s] %s\n", series, fmt.Sprintf(format, args...))
}

// judge turns what the guest said into tests of this process.
func judge(t *testing.T, g *guest, rep *report, runErr error) {
	t.Helper()
	for _, p := range programs {
		t.Run(p.Name, func(t *testing.T) { judgeProgram(t, p, rep) })
	}
	t.Run("kernel-log", func(t *testing.T) {
		log, err := os.ReadFile(g.log)
		if err != nil {
			t.Fatal(err)
		}
		bad := kernelTroubles(string(log))
		for _, line := range bad {
			t.Error(line)
		}
		if len(bad) > 0 || !rep.done {
			t.Logf("end of the kernel log:\n%s", tail(string(log), 80))
		}
	})
	if runErr != nil {
		t.Error(runErr)
	}
	if !rep.done {
		t.Error("the guest stopped before its init was done")
	}
}

func judgeProgram(t *testing.T, p program, rep *report) {
	t.Helper()
	results := rep.of(p.Name)
	for _, res := range results {
		t.Run(res.test, func(t *testing.T) {
			// Every guest has all that its programs need: a skip is a failure.
			if res.outcome != "PASS" {
				t.Errorf("%s in the guest:\n%s", orNone(res.outcome), res.text())
			}
		})
	}
	exit, ended := rep.exits[p.Name]
	switch {
	case !ended:
		t.Error("the program did not end")
	case exit != 0:
		t.Errorf("exit code %d", exit)
	case len(results) == 0:
		t.Error("the program ran no test")
	}
}

func orNone(outcome string) string {
	if outcome == "" {
		return "NOT ENDED"
	}
	return outcome
}

func tail(text string, lines int) string {
	all := strings.Split(text, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
