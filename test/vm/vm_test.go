// SPDX-License-Identifier: Apache-2.0

//go:build vm

package vm

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/test/nstest"
)

// kernels are the series that README.md and dkms.conf claim.
func kernels() []string { return []string{"6.1", "6.12"} }

// A program is a Go test binary that a guest runs. It is built static.
type program struct {
	Name    string        // of the binary, and in the report
	Package string        // import path, or relative to this folder
	Tags    string        // build tags, separated by commas
	Timeout time.Duration // of the whole program, in the guest
	Args    []string      // more arguments
	Env     []string      // more variables
}

// programs run in this order in each kernel; a new one is one line.
func programs() []program {
	return []program{
		{Name: "kmod.test", Package: "./guest/kmod", Tags: "vmguest", Timeout: 30 * time.Minute},
		{Name: "hook-kmod.test", Package: hooks + "kmod", Tags: "vmguest", Timeout: 15 * time.Minute},
		{Name: "hook-nft.test", Package: hooks + "nft", Tags: "netns", Timeout: 15 * time.Minute},
		{
			Name: "e2e-kmod.test", Package: "../e2e", Tags: "e2e,vmguest", Timeout: 20 * time.Minute,
			Env: e2eEnv("kmod"), Args: []string{e2eRun},
		},
		{
			Name: "e2e-nft.test", Package: "../e2e", Tags: "e2e", Timeout: 20 * time.Minute,
			Env: e2eEnv("nft"), Args: []string{e2eRun},
		},
		{
			Name: "fault-kmod.test", Package: "../../daemon/internal/fault", Tags: "e2e",
			Timeout: 15 * time.Minute, Env: e2eEnv("kmod"),
		},
		{
			Name: "fault-nft.test", Package: "../../daemon/internal/fault", Tags: "e2e",
			Timeout: 15 * time.Minute, Env: e2eEnv("nft"),
		},
	}
}

const hooks = "../../daemon/internal/hook/"

// What depends on the hook, of the end-to-end tests; the others take long and
// ask the kernel nothing new.
const e2eRun = "-test.run=" +
	"^Test(Life|PodCannotRemoveTheHook|DaemonIsAway|GarbageCollection|ModuleIsUnloaded)$"

func e2eEnv(hook string) []string {
	return []string{
		"NSQUEUE_HOOK=" + hook,
		"NSQUEUE_BIN=/" + guestBin, "NSQUEUE_CONFLISTS=/" + guestLists,
	}
}

// bootTime is what a guest may need beside its programs.
const bootTime = 5 * time.Minute

func TestKernel(t *testing.T) {
	all := programs()
	bin := build(t, all)
	for _, series := range kernels() {
		t.Run(series, func(t *testing.T) {
			t.Parallel() // a guest has one processor's worth of emulation
			k, err := fetch(series)
			if err != nil {
				t.Fatal(err)
			}
			testKernel(t, k, bin, all)
		})
	}
}

// debugSlowness is how many times slower than a packaged kernel one is that
// looks after itself as debug.config says.
const debugSlowness = 10

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
	all := programs()
	for i := range all {
		all[i].Timeout *= debugSlowness
		all[i].Env = append(slices.Clip(all[i].Env), fmt.Sprintf("%s=%d",
			nstest.SlownessEnv, debugSlowness))
	}
	testKernel(t, k, build(t, all), all)
}

// build compiles everything that runs in the guests, once for all kernels.
func build(t *testing.T, programs []program) map[string]string {
	t.Helper()
	dir := t.TempDir()
	bin := map[string]string{
		guestInit: goTool(t, dir, guestInit, "build", "-tags", "vmguest", "./init"),
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

func testKernel(t *testing.T, k *kernel, bin map[string]string, programs []program) {
	series := k.series
	start := time.Now()
	ko := buildModule(t, k)
	dir := workDir(t, series)
	g := &guest{k.vmlinuz, filepath.Join(dir, "initrd"), filepath.Join(dir, "kernel.log")}
	if err := k.writeImage(g.initrd, ko, bin, withRunFilter(programs)); err != nil {
		t.Fatal(err)
	}
	progress(series, "image made, %s", time.Since(start).Round(time.Second))
	rep, runErr := boot(t, g, series, programs)
	progress(series, "guest stopped, %s", time.Since(start).Round(time.Second))
	judge(t, g, programs, rep, runErr)
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
		p.Args = append(slices.Clip(p.Args), "-test.run="+filter)
		filtered = append(filtered, p)
	}
	return filtered
}

// boot runs the guest to its end and shows its lines as they come.
func boot(t *testing.T, g *guest, series string, programs []program) (*report, error) {
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
func judge(t *testing.T, g *guest, programs []program, rep *report, runErr error) {
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
