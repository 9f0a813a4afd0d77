// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"slices"
	"testing"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// violations returns what a level of Pod Security would say of a pod.
func violations(t *testing.T, level api.Level, m *meta.ObjectMeta, spec *core.PodSpec) []string {
	t.Helper()
	e, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	at := api.LevelVersion{Level: level, Version: api.LatestVersion()}
	for _, r := range e.EvaluatePod(at, m, spec) {
		if !r.Allowed {
			all = append(all, r.ForbiddenReason+": "+r.ForbiddenDetail)
		}
	}
	slices.Sort(all)
	return all
}

// The pods need what they need, and not one thing more.
func TestPodSecurity(t *testing.T) {
	set := daemonSet(t, rendered(t, ""))
	got := violations(t, api.LevelBaseline, &set.Spec.Template.ObjectMeta, &set.Spec.Template.Spec)
	want := []string{
		`forbidden AppArmor profile: pod must not set AppArmor profile type to "Unconfined"`,
		"host namespaces: hostNetwork=true, hostPID=true",
		`hostPath volumes: volumes "run", "netns", "results", "configurations", "plugins"`,
		`non-default capabilities: containers "check", "nsqueued", "cni" must not include ` +
			`"DAC_READ_SEARCH", "NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_PTRACE", "SYS_RESOURCE" ` +
			`in securityContext.capabilities.add`,
		`seLinuxOptions: pod set forbidden securityContext.seLinuxOptions: type "spc_t"`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("have\n%q\nwant\n%q", got, want)
	}
}
