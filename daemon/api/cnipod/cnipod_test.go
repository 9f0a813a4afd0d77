// SPDX-License-Identifier: Apache-2.0

package cnipod

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
		got, warnings := ParseArgs(test.args)
		if got != test.want || len(warnings) != test.warnings {
			t.Errorf("ParseArgs(%q) = %+v, %q", test.args, got, warnings)
		}
	}
}

// What a runtime has kept of its arguments means the same as the arguments.
func TestIdentity(t *testing.T) {
	got := Identity([][2]string{
		{"IgnoreUnknown", "1"},
		{"K8S_POD_NAMESPACE", "n"},
		{"K8S_POD_NAME", "a;b"},
		{"K8S_POD_NAME", "a"},
		{"K8S_POD_UID", "u"},
	})
	if want := (api.Pod{Namespace: "n", Name: "a", UID: "u"}); got != want {
		t.Errorf("Identity = %+v, want %+v", got, want)
	}
}

func FuzzParseArgs(f *testing.F) {
	f.Add("K8S_POD_NAMESPACE=n;K8S_POD_NAME=a;x;;=")
	f.Fuzz(func(t *testing.T, args string) {
		pod, warnings := ParseArgs(args)
		if strings.Contains(pod.Namespace+pod.Name+pod.UID, ";") {
			t.Errorf("ParseArgs(%q) = %+v", args, pod)
		}
		if len(warnings) > strings.Count(args, ";")+1 {
			t.Errorf("ParseArgs(%q) warns %q", args, warnings)
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
			s := Settings{Policy: test.config, Annotations: map[string]string{"other": "false"}}
			if test.inspect != "-" {
				s.Annotations["nsqueue.io/inspect"] = test.inspect
			}
			if test.policy != "-" {
				s.Annotations["nsqueue.io/failure-policy"] = test.policy
			}
			if test.excluded {
				s.ExcludeNamespaces = []string{"kube-system", "default"}
			}
			if test.lowering != "" {
				s.Lowering = []string{test.lowering}
			}
			d := s.Decide("default")
			if d.Inspect != test.wantInspect || d.Policy != test.wantPolicy {
				t.Errorf("inspect %v, policy %s; want %v, %s",
					d.Inspect, d.Policy, test.wantInspect, test.wantPolicy)
			}
			warnings := strings.Join(d.Warnings, "\n")
			if len(d.Warnings) != test.wantWarnCount || !strings.Contains(warnings, test.wantWarnings) {
				t.Errorf("warnings %q, want %d that say %q", d.Warnings, test.wantWarnCount, test.wantWarnings)
			}
		})
	}
}

// A pod whose namespace is not known is in no excluded one.
func TestDecideWithoutNamespace(t *testing.T) {
	s := Settings{Policy: api.Ignore, ExcludeNamespaces: []string{"kube-system"}}
	want := Decision{Inspect: true, Policy: api.Ignore}
	if diff := cmp.Diff(want, s.Decide("")); diff != "" {
		t.Error(diff)
	}
}
