// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

// The shells' scripts ask by __complete.
func TestCompletion(t *testing.T) {
	d := apitest.Daemon{Attachments: attachments(), Ruled: api.Rules{Sets: []api.RuleSet{
		{Name: "web", Rules: []api.Rule{
			{Name: "name", Action: "accept"}, {Name: "default", Action: "reject"},
		}},
		{Name: "dns", Rules: []api.Rule{{Name: "default", Action: "next"}}},
	}}}
	twin := attachments()[0]
	twin.ContainerID, twin.Pod = "0fd31c8e5a2bffff02", api.Pod{Namespace: "kube-system", Name: "dns"}
	d.Attachments = append(d.Attachments, twin)
	socket := d.Start(t)
	for line, want := range map[string]string{
		"detach 0fd4":      "0fd4/eth0\t-",
		"detach 0fd4/eth0": "0fd4/eth0\t-",
		"detach 0fd31": "0fd31c8e5a2b77aa01/eth0\tdefault/busybox1 0fd31c8e5a2b77aa01/net1\t- " +
			"0fd31c8e5a2bffff02/eth0\tkube-system/dns",
		"describe d":           "default/busybox1",
		"describe 0fd4":        "0fd4/eth0\t-",
		"describe a ":          "",
		"watch --pod default/": "default/busybox1",
		"watch --namespace k":  "kube-system",
		"capture --direction ": "in out forward",
		"watch --verdict ":     "accept drop queue reject",
		"watch --rule w":       "web\tall of the set web/default\treject web/name\taccept",
		"events --rule web/d":  "web/default\treject",
		"events --verdict ":    "reject drop",
		"capture --rule web/d": "web/default\treject",
		"stats --sort ":        "packets bits drops settled time pod",
		"list -o ":             "table wide json yaml",
	} {
		args := append([]string{"__complete"}, strings.Split(line, " ")...)
		o := nsqueuectl(t.Context(), socket, args...)
		got, _, _ := strings.Cut(o.stdout, "\n:")
		if strings.HasPrefix(o.stdout, ":") {
			got = ""
		}
		if got = strings.ReplaceAll(got, "\n", " "); o.status != 0 || got != want {
			t.Errorf("%s: %q, want %q (%+v)", line, got, want, o)
		}
	}
	if o := nsqueuectl(t.Context(), "/nowhere", "__complete", "describe", ""); o.status != 0 ||
		!strings.HasPrefix(o.stdout, ":") {
		t.Errorf("without a daemon: %+v", o)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		o := nsqueuectl(t.Context(), "/nowhere", "completion", shell)
		if o.status != 0 || !strings.Contains(o.stdout, "nsqueuectl") {
			t.Errorf("%s: %+v", shell, o)
		}
	}
}
