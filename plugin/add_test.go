// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

func TestAdd(t *testing.T) {
	var d apitest.Daemon
	socket := d.Start(t)
	netns := apitest.OtherNetns(t)
	invocation{
		command: "ADD",
		stdin:   conf(socket, prevResult, `"failurePolicy":"Fail"`),
		env: map[string]string{
			"CNI_NETNS": netns,
			"CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=busybox1;nonsense;" +
				"K8S_POD_INFRA_CONTAINER_ID=c0ffee;K8S_POD_UID=0-1-2",
		},
	}.run().wantSuccess(t, `{"cniVersion":"1.1.0"}`)

	attached := d.Attached()
	if len(attached) != 1 {
		t.Fatalf("%d attach calls, want 1", len(attached))
	}
	want := api.AttachRequest{
		Key:           api.Key{ContainerID: "c0ffee", Ifname: "eth0"},
		Network:       "cbr0",
		Origin:        api.OriginCNI,
		Pod:           api.Pod{Namespace: "default", Name: "busybox1", UID: "0-1-2"},
		NetnsPath:     netns,
		FailurePolicy: api.Fail,
		Warnings:      []string{`CNI_ARGS: "nonsense" ignored: want KEY=VALUE`},
	}
	if diff := cmp.Diff(want, attached[0].AttachRequest); diff != "" {
		t.Errorf("attach request (-want +got):\n%s", diff)
	}
	info, err := os.Stat(netns)
	if err != nil {
		t.Fatal(err)
	}
	if attached[0].Netns == nil || !os.SameFile(info, attached[0].Netns) {
		t.Errorf("descriptor is %+v, want the netns %+v", attached[0].Netns, info)
	}
}

// The caller's trace reaches the daemon; what is none does not keep a pod from
// starting.
func TestAddTraceparent(t *testing.T) {
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	var d apitest.Daemon
	socket := d.Start(t)
	netns := apitest.OtherNetns(t)
	for _, value := range []string{trace, "nonsense\n"} {
		invocation{
			command: "ADD", stdin: conf(socket, prevResult),
			env: map[string]string{"CNI_NETNS": netns, "TRACEPARENT": value},
		}.run().wantSuccess(t, `{"cniVersion":"1.1.0"}`)
	}
	var got []string
	for _, a := range d.Attached() {
		got = append(got, a.Traceparent)
	}
	if diff := cmp.Diff([]string{trace, ""}, got); diff != "" {
		t.Errorf("traceparents (-want +got):\n%s", diff)
	}
}

// The result must be what came in, not what some type makes of it.
func TestAddPrintsPrevResultAsItCame(t *testing.T) {
	var d apitest.Daemon
	socket := d.Start(t)
	netns := apitest.OtherNetns(t)
	for name, result := range map[string]string{
		"empty":       `{}`,
		"white space": "{ \n\t\"ips\" :[ ] , \r\n \"dns\":{ } }",
		"unknown":     `{"x-vendor":{"a":[1,null,{"b":"c"}]},"cniVersion":"0.3.1"}`,
		"numbers":     `{"a":123456789012345678901234567890,"b":1e400,"c":1.0,"d":-0}`,
		"escapes":     `{"a":"\u0041\/<>&\ud83d\ude00","é":"😀"}`,
		"duplicates":  `{"a":1,"a":2}`,
		"not UTF-8":   "{\"a\":\"\xff\xfe\"}",
	} {
		t.Run(name, func(t *testing.T) {
			for _, version := range supported().SupportedVersions() {
				stdin := ` {"name":"n", "prevResult" :` + "\n " + result + ` , "cniVersion":"` + version +
					`","type":"nsqueue","socket":"` + socket + `"}` + "\n"
				env := map[string]string{"CNI_NETNS": netns}
				invocation{command: "ADD", stdin: stdin, env: env}.run().wantSuccess(t, result)
			}
		})
	}
}

func TestAddNotInspected(t *testing.T) {
	var d apitest.Daemon
	socket := d.Start(t)
	netns := apitest.OtherNetns(t)
	annotation := func(value string) string {
		return `"runtimeConfig":{"` + keyAnnotations + `":{"nsqueue.io/inspect":"` + value + `"}}`
	}
	excluded := `"excludeNamespaces":["kube-system"]`
	allowed := `"podAnnotations":["inspect"]`
	for _, test := range []struct {
		name, namespace string
		members         []string
		attached        bool
		stderr          string
	}{
		{"namespace", "kube-system", []string{excluded}, false, "not inspected"},
		{"other namespace", "default", []string{excluded}, true, ""},
		{"annotation", "default", []string{allowed, annotation("false")}, false, "not inspected"},
		{"refused", "default", []string{annotation("false")}, true, "refused"},
		{"raised", "kube-system", []string{excluded, annotation("true")}, true, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, command := range []string{"ADD", "CHECK"} {
				before := len(d.Calls())
				o := invocation{
					command: command,
					stdin:   conf(socket, append(test.members, prevResult)...),
					env: map[string]string{
						"CNI_NETNS": netns, "CNI_ARGS": "K8S_POD_NAMESPACE=" + test.namespace,
					},
				}.run()
				want := ""
				if command == "ADD" {
					want = `{"cniVersion":"1.1.0"}`
				}
				o.wantSuccess(t, want)
				if called := len(d.Calls()) > before; called != test.attached {
					t.Errorf("%s: daemon called: %v, want %v", command, called, test.attached)
				}
				if command == "ADD" && !strings.Contains(o.stderr, test.stderr) {
					t.Errorf("stderr %q does not mention %q", o.stderr, test.stderr)
				}
			}
		})
	}
	var warnings []string
	for _, a := range d.Attached() {
		warnings = append(warnings, a.Warnings...)
	}
	want := []string{`annotation nsqueue.io/inspect: "false" refused: ` +
		`"inspect" is not in the CNI configuration's podAnnotations`}
	if diff := cmp.Diff(want, warnings); diff != "" {
		t.Errorf("warnings to the daemon (-want +got):\n%s", diff)
	}
}

// An annotation that has no meaning refuses a pod under Fail, with the reason; a
// pod under Ignore starts, and the daemon is told.
func TestAddMeaninglessAnnotation(t *testing.T) {
	var d apitest.Daemon
	socket := d.Start(t)
	netns := apitest.OtherNetns(t)
	add := func(policy, annotation string) outcome {
		return invocation{
			command: "ADD", env: map[string]string{"CNI_NETNS": netns},
			stdin: conf(socket, prevResult, `"failurePolicy":"`+policy+`"`, `"runtimeConfig":{`+
				`"io.kubernetes.cri.pod-annotations":{`+annotation+`}}`),
		}.run()
	}
	for annotation, want := range map[string]string{
		`"nsqueue.io/inspct":"true"`:         `annotation "nsqueue.io/inspct" ignored`,
		`"nsqueue.io/failure-policy":"fail"`: `want "Fail" or "Ignore"`,
	} {
		before := len(d.Attached())
		add("Fail", annotation).wantError(t, types.ErrInvalidNetworkConfig, want, "Fail")
		if n := len(d.Attached()); n != before {
			t.Errorf("%s: attached", annotation)
		}
		calls := d.Calls()
		last := calls[len(calls)-1]
		if !strings.HasPrefix(last, "warn c0ffee/eth0 ") || !strings.Contains(last, want) {
			t.Errorf("%s: the daemon is not told of the refusal: %q", annotation, last)
		}
		add("Ignore", annotation).wantSuccess(t, `{"cniVersion":"1.1.0"}`)
		all := d.Attached()
		if w := all[len(all)-1].Warnings; len(w) != 1 || !strings.Contains(w[0], want) {
			t.Errorf("%s: warnings %q", annotation, w)
		}
	}
}

// The entry says which annotations the daemon gets.
func TestAddPassesAnnotations(t *testing.T) {
	const annotations = `"runtimeConfig":{"io.kubernetes.cri.pod-annotations":` +
		`{"nsqueue.io/profile":"<s>\u001b","example.com/team":"a","other":"b"}}`
	profile := map[string]string{"nsqueue.io/profile": "<s>\x1b"}
	for members, want := range map[string]map[string]string{
		``:                        profile,
		`"passAnnotations":null,`: profile,
		`"passAnnotations":["nsqueue.io/profile","example.com/*"],`: {
			"nsqueue.io/profile": "<s>\x1b", "example.com/team": "a",
		},
	} {
		var d apitest.Daemon
		invocation{
			command: "ADD", env: map[string]string{"CNI_NETNS": apitest.OtherNetns(t)},
			stdin: conf(d.Start(t), prevResult, `"failurePolicy":"Fail"`, members+annotations),
		}.run().wantSuccess(t, `{"cniVersion":"1.1.0"}`)
		got := d.Attached()
		if len(got) != 1 || !cmp.Equal(want, got[0].Annotations) || got[0].Warnings != nil {
			t.Errorf("%s: %+v", members, got)
		}
	}
	var d apitest.Daemon
	invocation{
		command: "ADD", env: map[string]string{"CNI_NETNS": apitest.OtherNetns(t)},
		stdin: conf(d.Start(t), prevResult, `"passAnnotations":[]`, annotations),
	}.run().wantSuccess(t, `{"cniVersion":"1.1.0"}`)
	if got := d.Attached(); len(got) != 1 || got[0].Annotations != nil || len(got[0].Warnings) != 1 {
		t.Errorf("none is to be passed on: %+v", got)
	}
}

// The daemon is told what is wrong with a pod that it does not inspect, and the
// pod starts whether it hears that or not.
func TestAddWarnsOfUninspected(t *testing.T) {
	var d apitest.Daemon
	for _, socket := range []string{d.Start(t), filepath.Join(t.TempDir(), "none.sock")} {
		invocation{
			command: "ADD",
			env: map[string]string{
				"CNI_NETNS": apitest.OtherNetns(t),
				"CNI_ARGS":  "K8S_POD_NAMESPACE=kube-system;K8S_POD_NAME=web",
			},
			stdin: conf(socket, prevResult, `"excludeNamespaces":["kube-system"]`,
				`"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"nsqueue.io/inspect":"ture"}}`),
		}.run().wantSuccess(t, `{"cniVersion":"1.1.0"}`)
	}
	want := []string{`warn c0ffee/eth0 annotation nsqueue.io/inspect: "ture" ignored: ` +
		`want "true" or "false"`}
	if diff := cmp.Diff(want, d.Calls()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

// Nothing in the call's arguments and annotations, however much, costs a pod its
// start or its inspection.
func TestAddWithTooMuch(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	var annotations []string
	for i := range 3000 {
		annotations = append(annotations, fmt.Sprintf(`"nsqueue.io/%d%.200s":%q`, i, long, long[:100]))
	}
	for name, args := range map[string]string{
		"pairs":  strings.Repeat("pair;", 3000),
		"name":   "K8S_POD_NAME=" + long + ";K8S_POD_UID=" + long,
		"bytes":  "K8S_POD_NAME=" + strings.Repeat("\xff\x1b", 50_000),
		"others": strings.Repeat("\x1b", 100_000) + "=" + long,
	} {
		var d apitest.Daemon
		o := invocation{
			command: "ADD",
			env:     map[string]string{"CNI_NETNS": apitest.OtherNetns(t), "CNI_ARGS": args},
			stdin: conf(d.Start(t), prevResult, `"runtimeConfig":{`+
				`"io.kubernetes.cri.pod-annotations":{`+strings.Join(annotations, ",")+`}}`),
		}.run()
		o.wantSuccess(t, `{"cniVersion":"1.1.0"}`)
		got := d.Attached()
		if len(got) != 1 || len(got[0].Warnings) != 8 {
			t.Fatalf("%s: attached %+v", name, got)
		}
		if n := len(got[0].Annotations); n == 0 || n > api.MaxAnnotations {
			t.Errorf("%s: %d annotations", name, n)
		}
		if len(o.stderr) > 10_000 {
			t.Errorf("%s: %d bytes are logged", name, len(o.stderr))
		}
	}
}

// A name that JSON cannot carry is refused, so that no later call misses it; one
// that an older version has attached all the same is detached.
func TestNamesThatAreNoText(t *testing.T) {
	var d apitest.Daemon
	socket := d.Start(t)
	netns := apitest.OtherNetns(t)
	for name, value := range map[string]string{
		"CNI_IFNAME": "eth\xff", "CNI_NETNS": netns + "\xff", "CNI_CONTAINERID": "c\xff",
	} {
		env := map[string]string{"CNI_NETNS": netns}
		env[name] = value
		invocation{command: "ADD", stdin: conf(socket, prevResult), env: env}.run().
			wantError(t, types.ErrInvalidEnvironmentVariables, "\\xff")
	}
	if calls := d.Calls(); calls != nil {
		t.Errorf("the daemon was called: %v", calls)
	}
	invocation{
		command: "DEL", stdin: conf(socket), env: map[string]string{"CNI_IFNAME": "eth\xff"},
	}.run().wantSuccess(t, "")
	want := []string{"detach ended c0ffee/eth\ufffd"}
	if diff := cmp.Diff(want, d.Calls()); diff != "" {
		t.Error(diff)
	}
}

func TestNetns(t *testing.T) {
	var d apitest.Daemon
	socket := d.Start(t)
	dir := t.TempDir()
	file, fifo := filepath.Join(dir, "file"), filepath.Join(dir, "fifo")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ path, override, mentions string }{
		{filepath.Join(dir, "missing"), "", "no such file"},
		{dir, "", "not a network namespace"},
		{file, "", "not a network namespace"},
		{fifo, "", "not a network namespace"},
		{"/proc/self/ns/pid", "", "not a network namespace"},
		{apitest.OwnNetns, "", "plugin itself"},
		{apitest.OwnNetns, "0", "plugin itself"},
		{file, "1", "not a network namespace"},
	} {
		for _, command := range []string{"ADD", "CHECK"} {
			env := map[string]string{"CNI_NETNS": test.path, "CNI_NETNS_OVERRIDE": test.override}
			o := invocation{command: command, stdin: conf(socket, prevResult), env: env}.run()
			o.wantError(t, types.ErrInvalidNetNS, test.mentions)
		}
	}
	if calls := d.Calls(); calls != nil {
		t.Errorf("the daemon was called: %v", calls)
	}
	for _, override := range []string{"1", "true", "TRUE"} {
		env := map[string]string{"CNI_NETNS": apitest.OwnNetns, "CNI_NETNS_OVERRIDE": override}
		o := invocation{command: "ADD", stdin: conf(socket, prevResult), env: env}.run()
		o.wantSuccess(t, `{"cniVersion":"1.1.0"}`)
	}
}
