// SPDX-License-Identifier: Apache-2.0

package cnipod

import (
	"strings"
	"testing"
	"unicode/utf8"

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
		{"K8S_POD_NAME=\xff;K8S_POD_UID=u", api.Pod{UID: "u"}, 1},
		{"K8S_POD_NAMESPACE=" + strings.Repeat("n", 100_000), api.Pod{}, 1},
		{"K8S_POD_NAME=" + strings.Repeat("n", 253), api.Pod{Name: strings.Repeat("n", 253)}, 0},
		{"OTHER=\xff" + strings.Repeat("n", 100_000), api.Pod{}, 0},
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
		for _, name := range []string{pod.Namespace, pod.Name, pod.UID} {
			if !utf8.ValidString(name) || len(name) > api.MaxName {
				t.Errorf("ParseArgs(%q) = %+v", args, pod)
			}
		}
		for _, w := range warnings {
			if len(w) > 1000 || !utf8.ValidString(w) {
				t.Errorf("ParseArgs(%q) warns %q", args, w)
			}
		}
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

// What has no meaning is a warning under Ignore, and refuses the pod under Fail.
func TestMeaninglessAnnotations(t *testing.T) {
	const unknown, bad = `"nsqueue.io/inspct"`, `nsqueue.io/failure-policy: "fail" ignored`
	for _, test := range []struct {
		name        string
		config      api.Policy
		annotations map[string]string
		warnings    []string
		refused     bool
	}{
		{"misspelt", api.Ignore, map[string]string{"inspct": "true"}, []string{unknown}, false},
		{"misspelt under Fail", api.Fail, map[string]string{"inspct": ""}, []string{unknown}, true},
		{"bad", api.Ignore, map[string]string{"failure-policy": "fail"}, []string{bad}, false},
		{"bad under Fail", api.Fail, map[string]string{"failure-policy": "fail"}, []string{bad}, true},
		{
			"both", api.Fail,
			map[string]string{"failure-policy": "fail", "inspct": ""},
			[]string{unknown, bad},
			true,
		},
		{
			"misspelt beside Fail", api.Ignore,
			map[string]string{"failure-policy": "Fail", "inspct": ""},
			[]string{unknown},
			true,
		},
		{
			"refused is not meaningless", api.Fail,
			map[string]string{"failure-policy": "Ignore"},
			[]string{"refused"},
			false,
		},
		{"none", api.Fail, nil, nil, false},
	} {
		s := Settings{Policy: test.config, Annotations: map[string]string{"nsqueue.org/x": "y"}}
		for name, value := range test.annotations {
			s.Annotations[AnnotationPrefix+name] = value
		}
		d := s.Decide("default")
		if (d.Refusal != "") != test.refused || len(d.Warnings) != len(test.warnings) {
			t.Errorf("%s: %q, refusal %q", test.name, d.Warnings, d.Refusal)
			continue
		}
		for i, want := range test.warnings {
			if !strings.Contains(d.Warnings[i], want) ||
				test.refused && !strings.Contains(d.Refusal, want) {
				t.Errorf("%s: %q, refusal %q", test.name, d.Warnings, d.Refusal)
			}
		}
	}
}

func FuzzDecide(f *testing.F) {
	f.Add("nsqueue.io/inspct", "a", "Fail", "no", true)
	f.Add("nsqueue.io/\xff", strings.Repeat("a", api.MaxAnnotationBytes), "Fail", "true", false)
	f.Fuzz(func(t *testing.T, key, value, policy, inspect string, fail bool) {
		s := Settings{Policy: api.Ignore, Annotations: map[string]string{
			AnnotationPrefix + PolicyName: policy, AnnotationPrefix + InspectName: inspect, key: value,
		}}
		if fail {
			s.Policy = api.Fail
		}
		d := s.Decide("default")
		if d.Policy.Validate() != nil || fail && d.Policy != api.Fail || fail && !d.Inspect {
			t.Errorf("%+v: %+v", s, d)
		}
		if d.Refusal != "" && (d.Policy != api.Fail || len(d.Warnings) == 0) {
			t.Errorf("%+v: %+v", s, d)
		}
		if kept, beyond := api.LimitAnnotations(d.Annotations); len(kept) != len(d.Annotations) ||
			beyond != nil || !d.Inspect && kept != nil {
			t.Errorf("%+v: %+v", s, d)
		}
		for _, w := range append(d.Warnings, d.Refusal) {
			if len(w) > 3000 || !utf8.ValidString(w) {
				t.Errorf("warning %q", w)
			}
		}
	})
}

// A pod whose namespace is not known is in no excluded one.
func TestDecideWithoutNamespace(t *testing.T) {
	s := Settings{Policy: api.Ignore, ExcludeNamespaces: []string{"kube-system"}}
	want := Decision{Inspect: true, Policy: api.Ignore}
	if diff := cmp.Diff(want, s.Decide("")); diff != "" {
		t.Error(diff)
	}
}
