// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/node"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// checked runs a program that checks, and returns its report and exit code.
func checked(t *testing.T, cmd *exec.Cmd) (r node.Report, code int) {
	t.Helper()
	out, err := cmd.Output()
	exit, _ := errors.AsType[*exec.ExitError](err)
	if err != nil && exit == nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return r, cmd.ProcessState.ExitCode()
}

// tree returns all paths below a directory with their modes and times of change.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err == nil {
			all[path] = info.Mode().String() + " " + info.ModTime().String()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A check beside nsqueued finds nothing wrong, changes nothing, and takes nothing from
// the pods.
func TestCheckBesideNsqueued(t *testing.T) {
	r := startRig(t, api.Fail)
	pod, peer := nstest.Pair(t)
	c := r.attachAs(t, "checked", pod)
	r.wantInspected(t, c, pod, peer)
	dir := filepath.Dir(r.Socket())
	before := tree(t, dir)
	nsqueued := filepath.Join(binDir(t), "nsqueued")
	args := []string{"check", "-o", "json", "--socket", r.Socket(), "--state-dir", dir}
	report, code := checked(t, exec.CommandContext(t.Context(), nsqueued, args...))
	if code != 0 || report.Wrong() != 0 || !slices.ContainsFunc(report.Findings,
		func(f api.Finding) bool { return f.Check == "hook" && f.Result == api.FindingOK }) {
		t.Errorf("exit code %d: %+v", code, report.Findings)
	}
	if after := tree(t, dir); !maps.Equal(before, after) {
		t.Errorf("files before %v, after %v", before, after)
	}
	r.wantInspected(t, c, pod, peer)
}

// Each exit code means one thing.
func TestCheckExitCodes(t *testing.T) {
	nsqueued, dir := filepath.Join(binDir(t), "nsqueued"), t.TempDir()
	file := filepath.Join(dir, "nsqueued.yaml")
	err := os.WriteFile(file, []byte("apiVersion: nsqueue.io/v1alpha1\n"+
		"kind: DaemonConfiguration\nhook: iptables\nfailurePolicy: Open\n"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		args  []string
		code  int
		wrong []string
	}{
		"wrong file":     {[]string{"--config", file}, 1, []string{"iptables", "Open"}},
		"no file":        {[]string{"--config", file + ".none"}, 1, []string{"no such file"}},
		"wrong flag":     {[]string{"--hook", "iptables"}, 1, []string{"iptables"}},
		"no rules":       {[]string{"--rules", dir + "/none", "--state-dir", dir}, 1, []string{"none"}},
		"unknown flag":   {[]string{"--hoook", "nft"}, 2, nil},
		"argument":       {[]string{"nft"}, 2, nil},
		"unknown output": {[]string{"-o", "xml"}, 2, nil},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"check", "-o", "json"}, tt.args...)
			if tt.code == 2 {
				cmd := exec.CommandContext(t.Context(), nsqueued, args...)
				out, _ := cmd.CombinedOutput()
				if cmd.ProcessState.ExitCode() != 2 || !strings.HasPrefix(string(out), "nsqueued: ") {
					t.Errorf("exit code %d: %s", cmd.ProcessState.ExitCode(), out)
				}
				return
			}
			report, code := checked(t, exec.CommandContext(t.Context(), nsqueued, args...))
			var wrong []string
			for _, f := range report.Findings {
				if f.Result == api.FindingWrong {
					wrong = append(wrong, f.Where+": "+f.What)
				}
			}
			if code != tt.code || len(wrong) != len(tt.wrong) {
				t.Fatalf("exit code %d, wrong %q", code, wrong)
			}
			for i, word := range tt.wrong {
				if !strings.Contains(strings.Join(wrong, "\n"), word) {
					t.Errorf("%q has nothing of %q", wrong, tt.wrong[i])
				}
			}
		})
	}
}

// Without what the kernel asks for, the check says what is missing, and what of the rest
// it could not find out.
func TestCheckWithoutCapabilities(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "setpriv", "--bounding-set=-net_admin,-sys_ptrace",
		filepath.Join(binDir(t), "nsqueued"), "check", "-o", "json", "--state-dir", t.TempDir())
	report, code := checked(t, cmd)
	results := make(map[api.FindingResult]string)
	for _, f := range report.Findings {
		results[f.Result] += f.What + "\n"
	}
	if code != 1 || !strings.Contains(results[api.FindingWrong], "CAP_NET_ADMIN") ||
		!strings.Contains(results[api.FindingWarning], "CAP_SYS_PTRACE") ||
		!strings.Contains(results[api.FindingUnknown], "CAP_NET_ADMIN") {
		t.Errorf("exit code %d: %+v", code, report.Findings)
	}
}

// A daemon that somebody builds on the library can be asked, too, and does not run.
func TestCheckOfAnotherDaemon(t *testing.T) {
	inspector := buildShownInspector(t)
	cmd := exec.CommandContext(t.Context(), inspector)
	cmd.Env = append(os.Environ(), node.EnvCheck+"=json")
	report, code := checked(t, cmd)
	if code != 0 || report.Wrong() != 0 || len(report.Findings) < 4 {
		t.Errorf("exit code %d: %+v", code, report.Findings)
	}
	if _, err := os.Lstat(api.DefaultSocket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it has served: %v", err)
	}
}
