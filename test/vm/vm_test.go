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
		{
			Name: "kmod.test", Package: "./guest/kmod", Tags: "vmguest", Timeout: 30 * time.Minute,
			Env: []string{"NSQUEUE_VM_NETNS=" + os.Getenv("NSQUEUE_VM_NETNS")},
		},
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

const hookEnv = "NSQUEUE_HOOK="

func e2eEnv(hook string) []string {
	return []string{
		hookEnv + hook,
		"NSQUEUE_BIN=/" + guestBin, "NSQUEUE_CONFLISTS=/" + guestLists,
	}
}

// bootTime is what a guest may need beside its programs.
const bootTime = 5 * time.Minute

// TestKernel boots what CI does. All programs run in each kernel but those with a daemon: in
// the newest kernel it has nftables, and in the others the module. So the guests take
// equally long.
func TestKernel(t *testing.T) {
	all := programs()
	bin := build(t, kernels()[0].arch, all)
	module, nftables := daemonBy(all, "kmod"), daemonBy(all, "nft")
	for i, programs := range [][]program{module, module, nftables} {
		testKernels(t, kernels()[i:i+1], bin, programs)
	}
}

// TestSupported boots the kernels that are supported, with all programs.
func TestSupported(t *testing.T) {
	all := programs()
	testKernels(t, slices.Concat(kernels(), others()), build(t, kernels()[0].arch, all), all)
}

// daemonBy are the programs without those that run a daemon with another hook.
func daemonBy(all []program, hook string) []program {
	return slices.DeleteFunc(slices.Clone(all), func(p program) bool {
		return slices.ContainsFunc(p.Env, func(v string) bool {
			return strings.HasPrefix(v, hookEnv) && v != hookEnv+hook
		})
	})
}

// TestARM64 boots kernels of that architecture, with all programs.
func TestARM64(t *testing.T) {
	all := slower(armSlowness)
	testKernels(t, arm64(), build(t, "arm64", all), all)
}

const armSlowness = 2

// slower are all programs, for a guest that is so many times slower than others.
func slower(times int) []program {
	all := programs()
	for i := range all {
		all[i].Timeout *= time.Duration(times)
		all[i].Env = append(slices.Clip(all[i].Env),
			fmt.Sprintf("%s=%d", nstest.SlownessEnv, times))
	}
	return all
}

func testKernels(t *testing.T, sources []source, bin map[string]string, all []program) {
	for _, s := range sources {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel() // a guest has one processor's worth of emulation
			k, err := fetch(s)
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
	all := slower(debugSlowness)
	all[0].Tags += ",failslab" // debug.config can refuse memory
	testKernel(t, k, build(t, k.arch, all), all)
}

// build compiles everything that runs in the guests, once for all kernels of an
// architecture.
func build(t *testing.T, arch string, programs []program) map[string]string {
	t.Helper()
	dir := t.TempDir()
	bin := map[string]string{
		guestInit: goTool(t, arch, filepath.Join(dir, guestInit), "build", "-tags", "vmguest", "./init"),
	}
	for _, p := range programs {
		bin[p.Name] = goTool(t, arch, filepath.Join(dir, p.Name), "test", "-c", "-tags", p.Tags, p.Package)
	}
	return bin
}

func goTool(t *testing.T, arch, path, verb string, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", append([]string{verb, "-o", path}, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s %v: %v\n%s", verb, args, err, out)
	}
	return path
}

func testKernel(t *testing.T, k *kernel, bin map[string]string, programs []program) {
	start := time.Now()
	ko, err := k.module()
	if err != nil {
		t.Fatal(err)
	}
	dir := workDir(t, k.name)
	g := &guest{k.arch, k.vmlinuz, filepath.Join(dir, "initrd"), filepath.Join(dir, "kernel.log")}
	if err := k.writeImage(g.initrd, ko, bin, withRunFilter(programs)); err != nil {
		t.Fatal(err)
	}
	progress(k.name, "image made, %s", time.Since(start).Round(time.Second))
	rep, runErr := boot(t, g, k.name, programs)
	progress(k.name, "guest stopped, %s", time.Since(start).Round(time.Second))
	judge(t, g, programs, rep, runErr)
}

func workDir(t *testing.T, name string) string {
	t.Helper()
	keep := os.Getenv("NSQUEUE_VM_KEEP")
	if keep == "" {
		return t.TempDir()
	}
	dir := filepath.Join(keep, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// runFilterEnv is the variable that says which tests run, in all programs that have them.
const runFilterEnv = "NSQUEUE_VM_RUN"

func withRunFilter(all []program) []program {
	filter := os.Getenv(runFilterEnv)
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
func boot(t *testing.T, g *guest, name string, programs []program) (*report, error) {
	limit := bootTime
	for _, p := range programs {
		limit += p.Timeout
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	rep := newReport()
	err := g.run(ctx, func(line string) {
		progress(name, "%s", line)
		rep.add(line)
	})
	return rep, err
}

// progress goes around the test log, which shows nothing until a test ends.
func progress(name, format string, args ...any) {
	fmt.Fprintf(os.Stderr, "[%s] %s\n", name, fmt.Sprintf(format, args...))
}

// judge turns what the guest said into tests of this process.
func judge(t *testing.T, g *guest, programs []program, rep *report, runErr error) {
	t.Helper()
	ran := 0
	for _, p := range programs {
		ran += len(rep.of(p.Name))
		t.Run(p.Name, func(t *testing.T) { judgeProgram(t, p, rep) })
	}
	if ran == 0 {
		t.Error("no test ran")
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
	case len(results) == 0 && os.Getenv(runFilterEnv) == "":
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
