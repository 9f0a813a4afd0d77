// SPDX-License-Identifier: Apache-2.0

package doctor_test

import (
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/ctl/internal/doctor"
	"github.com/nsqueue/nsqueue/daemon/api"
)

// at has the daemon run at a place.
func (p *patient) at(place *api.Place) {
	p.daemon.Change(func(s *api.Status) { s.Place = place })
}

// node is a place that hides nothing.
func node() *api.Place {
	return &api.Place{PIDNamespace: api.OfNode, UserNamespace: api.OfNode}
}

func TestContainerHides(t *testing.T) {
	untraced := []api.MissingCapability{{Name: "CAP_SYS_PTRACE", For: "seeing"}}
	private := []api.NetnsDir{{Path: "/run/netns", Follows: api.OfItsOwn}}
	const (
		pids = "warning container : a PID namespace of its own hides the processes of pods: calls to " +
			"detach that are lost stay lost"
		traces = "warning container CAP_SYS_PTRACE: missing; it is for seeing"
		later  = "container /run/netns: mount propagation is missing: netns that the runtime " +
			"mounts there later do not appear to nsqueued"
		cutOff = "wrong " + later + ", and it does not see the processes of all pods: after a " +
			"restart, pods under Fail may be cut off, and others pass uninspected"
	)
	for name, tt := range map[string]struct {
		change func(*api.Place)
		want   []string
	}{
		"nothing":   {func(*api.Place) {}, nil},
		"processes": {func(p *api.Place) { p.PIDNamespace = api.OfItsOwn }, []string{pids}},
		"users": {
			func(p *api.Place) { p.UserNamespace = api.OfItsOwn },
			[]string{"warning container : nsqueued is in a user namespace of its own, and cannot enter netns of the node's"},
		},
		"profile": {
			func(p *api.Place) { p.AppArmor = "x (enforce)" },
			[]string{"warning container : the AppArmor profile x (enforce) confines nsqueued: it may forbid to look at processes"},
		},
		"capability": {func(p *api.Place) { p.Missing = untraced }, []string{traces}},
		"mounts": {
			func(p *api.Place) { p.NetnsDirs = private },
			[]string{"warning " + later + ". It finds pods by their processes alone: where it " +
				"finds none, the pod waits for inspection after a restart, without network under Fail"},
		},
		"mounts and processes": {
			func(p *api.Place) { p.NetnsDirs, p.PIDNamespace = private, api.OfItsOwn },
			[]string{pids, cutOff},
		},
		"mounts and capability": {
			func(p *api.Place) { p.NetnsDirs, p.Missing = private, untraced },
			[]string{traces, cutOff},
		},
		"what cannot be seen": {
			func(p *api.Place) {
				p.PIDNamespace, p.UserNamespace = api.SightUnknown, api.SightUnknown
				p.NetnsDirs = []api.NetnsDir{{Path: "/run/netns", Follows: api.SightUnknown}}
			},
			[]string{
				"unknown container : nsqueued cannot tell whether it sees all processes",
				"unknown container /run/netns: nsqueued cannot tell whether it sees what is mounted there later",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, place := newPatient(t), node()
			tt.change(place)
			p.at(place)
			p.want(tt.want...)
		})
	}
}

// A daemon of before does not tell, which is nobody's fault.
func TestContainerIsNotTold(t *testing.T) {
	p := newPatient(t)
	p.at(nil)
	p.want("unknown container : not checked: this nsqueued does not report where it runs")
}

// In a cluster, nobody is sent to systemctl.
func TestRemediesInACluster(t *testing.T) {
	remedies := func(p *patient) string {
		t.Helper()
		_, report := p.examine()
		var all []string
		for _, f := range report.Findings {
			all = append(all, f.Remedy)
		}
		return strings.Join(all, "\n")
	}
	sick := func(s *api.Status) {
		s.Supervisor = api.Supervisor{Kind: api.NoSupervisor}
		s.Version, s.Descriptors.Room = "v9.9.9", 0
	}
	p := newPatient(t)
	p.daemon.Change(sick)
	if text := remedies(p); !strings.Contains(text, "systemctl") || strings.Contains(text, "kubectl") {
		t.Errorf("on a node:\n%s", text)
	}
	place := node()
	place.Kubernetes = true
	place.NetnsDirs = []api.NetnsDir{{Path: "/run/netns", Follows: api.OfItsOwn}}
	p.at(place)
	text := remedies(p)
	for _, word := range []string{"systemctl", "journalctl", "the unit of nsqueued"} {
		if strings.Contains(text, word) {
			t.Errorf("in a cluster it says %s:\n%s", word, text)
		}
	}
	for _, words := range []string{"kubectl apply", "restart the pod", "helm upgrade"} {
		if !strings.Contains(text, words) {
			t.Errorf("in a cluster it does not say %s:\n%s", words, text)
		}
	}
	// systemd runs this one, whatever is in its environment.
	p.daemon.Change(func(s *api.Status) { s.Supervisor.Kind = api.Systemd })
	if text := remedies(p); strings.Contains(text, "kubectl") {
		t.Errorf("under systemd:\n%s", text)
	}
}

// Where the daemon does not answer, it is likely to be where this program is.
func TestRemedyWhileTheDaemonIsAway(t *testing.T) {
	for inPod, word := range map[bool]string{false: "systemctl start", true: "kubectl describe pod"} {
		p := newPatient(t)
		p.InPod = inPod
		report := doctor.Examine(t.Context(), p.Options)
		if f := report.Findings[0]; !strings.Contains(f.Remedy, word) {
			t.Errorf("in a pod %v: %+v", inPod, f)
		}
	}
}
