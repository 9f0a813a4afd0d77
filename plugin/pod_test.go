// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
)

func TestParseArgs(t *testing.T) {
	for _, test := range []struct {
		args     string
		want     api.Pod
		warnings int
	}{
		{"", api.Pod{}, 0},
		{";;", api.Pod{}, 0},
		{"K8S_POD_NAME=a", api.Pod{Name: "a"}, 0},
		{
			"IgnoreUnknown=true;K8S_POD_NAMESPACE=n;K8S_POD_NAME=a;K8S_POD_UID=u",
			api.Pod{Namespace: "n", Name: "a", UID: "u"},
			0,
		},
		{"K8S_POD_NAME=a=b;X=;=y", api.Pod{Name: "a=b"}, 0},
		{"K8S_POD_NAME;K8S_POD_UID=u;x", api.Pod{UID: "u"}, 2},
		{"K8S_POD_NAME=a;K8S_POD_NAME=b", api.Pod{Name: "b"}, 0},
		{"k8s_pod_name=a", api.Pod{}, 0},
	} {
		got, warnings := parseArgs(test.args)
		if got != test.want || len(warnings) != test.warnings {
			t.Errorf("parseArgs(%q) = %+v, %q", test.args, got, warnings)
		}
	}
}

func FuzzParseArgs(f *testing.F) {
	f.Add("K8S_POD_NAMESPACE=n;K8S_POD_NAME=a;x;;=")
	f.Fuzz(func(t *testing.T, args string) {
		pod, warnings := parseArgs(args)
		if strings.Contains(pod.Namespace+pod.Name+pod.UID, ";") {
			t.Errorf("parseArgs(%q) = %+v", args, pod)
		}
		if len(warnings) > strings.Count(args, ";")+1 {
			t.Errorf("parseArgs(%q) warns %q", args, warnings)
		}
	})
}

func TestDecide(t *testing.T) {
	const inspect, policy = "inspect", "failure-policy"
	for _, test := range []struct {
		name          string
		config        api.Policy
		excluded      bool
		inspect       string // the annotation, "-" where there is none
		policy        string
		lowering      string
		wantInspect   bool
		wantPolicy    api.Policy
		wantWarnings  string
		wantWarnCount int
	}{
		{"nothing", api.Ignore, false, "-", "-", "", true, api.Ignore, "", 0},
		{"excluded", api.Fail, true, "-", "-", "", false, api.Fail, "", 0},

		{"raise both", api.Ignore, true, "true", "Fail", "", true, api.Fail, "", 0},
		{"same as configured", api.Fail, false, "true", "Fail", "", true, api.Fail, "", 0},
		{"low already", api.Ignore, true, "false", "Ignore", "", false, api.Ignore, "", 0},

		{"lower inspect", api.Fail, false, "false", "-", inspect, false, api.Fail, "", 0},
		{"lower policy", api.Fail, false, "-", "Ignore", policy, true, api.Ignore, "", 0},
		{"refused inspect", api.Fail, false, "false", "-", policy, true, api.Fail, "refused", 1},
		{"refused policy", api.Fail, false, "-", "Ignore", inspect, true, api.Fail, "refused", 1},
		{"refused both", api.Fail, false, "false", "Ignore", "", true, api.Fail, "refused", 2},

		{"invalid inspect", api.Ignore, false, "no", "-", inspect, true, api.Ignore, `"no" ignored`, 1},
		{"invalid policy", api.Fail, false, "-", "ignore", policy, true, api.Fail, `"ignore" ignored`, 1},
		{"empty", api.Ignore, true, "", "", inspect, false, api.Ignore, `"" ignored`, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := &config{policy: test.config, annotations: map[string]string{"other": "false"}}
			if test.inspect != "-" {
				c.annotations["nsqueue.io/inspect"] = test.inspect
			}
			if test.policy != "-" {
				c.annotations["nsqueue.io/failure-policy"] = test.policy
			}
			if test.excluded {
				c.excludeNamespaces = []string{"kube-system", "default"}
			}
			if test.lowering != "" {
				c.lowering = []string{test.lowering}
			}
			d := decide(c, "default")
			if d.inspect != test.wantInspect || d.policy != test.wantPolicy {
				t.Errorf("inspect %v, policy %s; want %v, %s",
					d.inspect, d.policy, test.wantInspect, test.wantPolicy)
			}
			warnings := strings.Join(d.warnings, "\n")
			if len(d.warnings) != test.wantWarnCount || !strings.Contains(warnings, test.wantWarnings) {
				t.Errorf("warnings %q, want %d that say %q", d.warnings, test.wantWarnCount, test.wantWarnings)
			}
		})
	}
}

// A pod whose namespace is not known is in no excluded one.
func TestDecideWithoutNamespace(t *testing.T) {
	c := &config{policy: api.Ignore, excludeNamespaces: []string{"kube-system"}}
	want := decision{inspect: true, policy: api.Ignore}
	if diff := cmp.Diff(want, decide(c, ""), cmp.AllowUnexported(decision{})); diff != "" {
		t.Error(diff)
	}
}
