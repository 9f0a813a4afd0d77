// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
	"github.com/nsqueue/nsqueue/internal/spool"
)

// invocation is one call of the plugin by a runtime. Fields that are not set
// are what a runtime would sensibly send.
type invocation struct {
	command string
	stdin   string
	env     map[string]string
	limits  limits
	// withTimeout is that of process; nil stands for one that measures the time.
	withTimeout func(context.Context, time.Duration) (context.Context, context.CancelFunc)
}

type outcome struct {
	status         int
	stdout, stderr string
}

func (i invocation) run() outcome {
	env := map[string]string{
		"CNI_COMMAND":     i.command,
		"CNI_CONTAINERID": "c0ffee",
		"CNI_IFNAME":      "eth0",
		"CNI_PATH":        "/opt/cni/bin",
	}
	maps.Copy(env, i.env)
	if i.limits == (limits{}) {
		i.limits = endlessLimits()
	}
	if i.withTimeout == nil {
		i.withTimeout = context.WithTimeout
	}
	var stdout, stderr strings.Builder
	p := process{
		getenv: func(name string) string { return env[name] },
		stdin:  strings.NewReader(i.stdin),
		stdout: &stdout,
		stderr: &stderr,
		limits: i.limits,

		withTimeout: i.withTimeout,
		spoolPath:   testSpool,
	}
	status := p.run()
	return outcome{status, stdout.String(), stderr.String()}
}

// testSpool keeps tests away from the machine's own spool: sockets that are not
// the test's have none.
func testSpool(socket string) string {
	if strings.HasPrefix(socket, os.TempDir()) {
		return spool.Path(socket)
	}
	return "/dev/null/spool"
}

// endlessLimits are for tests in which nothing is to be waited for to its end. One
// that waits for it nevertheless does not end.
func endlessLimits() limits {
	const d = time.Hour
	return limits{fail: d, ignore: d, del: d, status: d, warn: d, backoff: time.Millisecond}
}

// shortLimits are for tests that wait for the end of one.
func shortLimits() limits {
	const d = 100 * time.Millisecond
	return limits{fail: d, ignore: d, del: d, status: d, warn: d, backoff: time.Millisecond}
}

// wantError checks that stdout has the one error JSON and nothing else.
func (o outcome) wantError(t *testing.T, code uint, mentions ...string) {
	t.Helper()
	var e struct {
		CNIVersion string
		types.Error
	}
	if o.status != 1 {
		t.Fatalf("status %d, want 1; stdout %q, stderr %q", o.status, o.stdout, o.stderr)
	}
	if err := json.Unmarshal([]byte(o.stdout), &e); err != nil {
		t.Fatalf("stdout %q is no error JSON: %v", o.stdout, err)
	}
	if e.Code != code || e.CNIVersion == "" {
		t.Errorf("error %s, want code %d and a cniVersion", o.stdout, code)
	}
	for _, m := range mentions {
		if !strings.Contains(e.Error.Error(), m) {
			t.Errorf("error %q does not mention %q", e.Error.Error(), m)
		}
	}
}

func (o outcome) wantSuccess(t *testing.T, stdout string) {
	t.Helper()
	if o.status != 0 || o.stdout != stdout {
		t.Fatalf("status %d, stdout %q; want 0, %q; stderr:\n%s", o.status, o.stdout, stdout, o.stderr)
	}
}

// conf returns a configuration with the given lines of JSON members added.
func conf(socket string, members ...string) string {
	members = append([]string{
		`"cniVersion":"1.1.0","name":"cbr0","type":"nsqueue"`, `"socket":"` + socket + `"`,
	}, members...)
	return "{" + strings.Join(members, ",") + "}"
}

const prevResult = `"prevResult":{"cniVersion":"1.1.0"}`

func TestWithoutCommand(t *testing.T) {
	o := invocation{}.run()
	o.wantSuccess(t, "")
	for _, want := range []string{"CNI plugin", "0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"} {
		if !strings.Contains(o.stderr, want) {
			t.Errorf("about text %q lacks %q", o.stderr, want)
		}
	}
}

func TestVersionFlag(t *testing.T) {
	var stdout, stderr strings.Builder
	p := process{
		args: []string{"--version"}, getenv: func(string) string { return "" },
		stdout: &stdout, stderr: &stderr,
	}
	if status := p.run(); status != 0 || stdout.String() != "nsqueue "+api.Version()+"\n" {
		t.Errorf("status %d, stdout %q", status, stdout.String())
	}
}

func TestVersionCommand(t *testing.T) {
	// What the runtime sends along does not matter.
	for _, stdin := range []string{"", `{"cniVersion":"1.0.0"}`, "{"} {
		o := invocation{command: "VERSION", stdin: stdin}.run()
		o.wantSuccess(t, `{"cniVersion":"1.1.0",`+
			`"supportedVersions":["0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}`+"\n")
	}
}

func TestUnknownCommand(t *testing.T) {
	invocation{command: "REMOVE"}.run().wantError(t, types.ErrInvalidEnvironmentVariables, "REMOVE")
}

// The kubelet and the runtimes must not be kept longer than this.
func TestDefaultLimits(t *testing.T) {
	l := defaultLimits()
	if l.fail >= 10*time.Second || l.ignore >= 3*time.Second || l.del >= 2*time.Second ||
		l.status >= 2*time.Second {
		t.Errorf("limits %+v are above what is promised", l)
	}
}

func TestMissingEnvironment(t *testing.T) {
	var d apitest.Daemon
	socket := d.Start(t)
	netns := apitest.OtherNetns(t)
	for _, command := range []string{"ADD", "CHECK"} {
		for _, name := range []string{"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"} {
			env := map[string]string{"CNI_NETNS": netns}
			env[name] = ""
			o := invocation{command: command, stdin: conf(socket, prevResult), env: env}.run()
			o.wantError(t, types.ErrInvalidEnvironmentVariables, name)
		}
		for name, value := range map[string]string{
			"CNI_CONTAINERID": "../etc", "CNI_IFNAME": "eth0/1",
		} {
			env := map[string]string{"CNI_NETNS": netns, name: value}
			o := invocation{command: command, stdin: conf(socket, prevResult), env: env}.run()
			o.wantError(t, types.ErrInvalidEnvironmentVariables, value)
		}
	}
	if calls := d.Calls(); calls != nil {
		t.Errorf("the daemon was called: %v", calls)
	}
}

// The plugin runs at each pod start: it must not drag in what it does not need.
func TestDependencies(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	var foreign []string
	for dep := range strings.Lines(string(out)) {
		dep = strings.TrimSpace(dep)
		if host, _, _ := strings.Cut(dep, "/"); strings.Contains(host, ".") {
			foreign = append(foreign, dep)
		}
	}
	const cni = "github.com/containernetworking/cni/pkg/"
	want := []string{
		cni + "types", cni + "types/020", cni + "types/040", cni + "types/100",
		cni + "types/create", cni + "types/internal", cni + "version",
		"github.com/nsqueue/nsqueue/daemon/api", "github.com/nsqueue/nsqueue/internal/atomicfile",
		"github.com/nsqueue/nsqueue/internal/boottime", "github.com/nsqueue/nsqueue/internal/cnipod",
		"github.com/nsqueue/nsqueue/internal/fdcontrol",
		"github.com/nsqueue/nsqueue/internal/printable", "github.com/nsqueue/nsqueue/internal/spool",
		"github.com/nsqueue/nsqueue/internal/unixsocket", "github.com/nsqueue/nsqueue/plugin",
	}
	slices.Sort(foreign)
	if diff := cmp.Diff(want, foreign); diff != "" {
		t.Errorf("dependencies outside of the standard library (-want +got):\n%s", diff)
	}
}
