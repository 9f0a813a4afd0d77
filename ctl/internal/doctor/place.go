// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"github.com/nsqueue/nsqueue/daemon/api"
)

// container says what the daemon's container hides from it, as far as the daemon can tell.
// Packets are inspected all the same: what suffers are pods that nobody says the end of.
func (e *examination) container() {
	p := e.status.Place
	if p == nil {
		e.add(Unknown, checkContainer, "", "not checked: this nsqueued does not report "+
			"where it runs", "")
		return
	}
	before := len(e.report.Findings)
	e.pidNamespace(p)
	if p.UserNamespace == api.OfItsOwn {
		e.add(Warning, checkContainer, "", "nsqueued is in a user namespace of its own, and "+
			"cannot enter netns of the node's", "Set hostUsers: true.")
	}
	if p.AppArmor != "" {
		e.add(Warning, checkContainer, "", "the AppArmor profile "+p.AppArmor+" confines "+
			"nsqueued: it may forbid to look at processes", "Set appArmorProfile: Unconfined.")
	}
	for _, c := range p.Missing {
		e.capability(&c)
	}
	for i := range p.NetnsDirs {
		e.netnsDir(p, &p.NetnsDirs[i])
	}
	if len(e.report.Findings) == before {
		e.ok(checkContainer, "", "nothing is hidden from nsqueued")
	}
}

func (e *examination) pidNamespace(p *api.Place) {
	switch p.PIDNamespace {
	case api.OfItsOwn:
		e.add(Warning, checkContainer, "", "a PID namespace of its own hides the processes of "+
			"pods: calls to detach that are lost stay lost", "Set hostPID: true.")
	case api.SightUnknown:
		e.add(Unknown, checkContainer, "", "nsqueued cannot tell whether it sees all processes", "")
	}
}

func (e *examination) capability(c *api.MissingCapability) {
	e.add(Warning, checkContainer, c.Name, "missing; it is for "+c.For,
		e.remedy("Add it to CapabilityBoundingSet= of the unit, then restart nsqueued.",
			"Add it to capabilities.add of the container."))
}

// netnsDir looks at a directory of netns. By processes, too, pods can be found again.
func (e *examination) netnsDir(p *api.Place, d *api.NetnsDir) {
	const hidden = "mount propagation is missing: netns that the runtime mounts there later " +
		"do not appear to nsqueued"
	remedy := e.remedy("Mount the node's directory in the container with mountPropagation: "+
		"HostToContainer; in a unit, remove MountFlags=private.",
		"Give this mount of the container mountPropagation: HostToContainer, as the chart of "+
			"nsqueue has it (helm upgrade brings it back), and deploy/image/pod.yaml.")
	switch {
	case d.Follows == api.SightUnknown:
		e.add(Unknown, checkContainer, d.Path,
			"nsqueued cannot tell whether it sees what is mounted there later", "")
	case d.Follows == api.OfNode:
	case p.PIDNamespace == api.OfNode && !p.Lacks("CAP_SYS_PTRACE"):
		e.add(Warning, checkContainer, d.Path, hidden+". It finds pods by their processes alone: "+
			"where it finds none, the pod waits for inspection after a restart, without network "+
			"under Fail", remedy)
	default:
		e.add(Wrong, checkContainer, d.Path, hidden+", and it does not see the processes of all "+
			"pods: after a restart, pods under Fail may be cut off, and others pass uninspected",
			remedy)
	}
}

// inPod reports whether the daemon runs in a pod. Where it does not answer, it is likely if
// this program does.
func (e *examination) inPod() bool {
	if !e.reached {
		return e.InPod
	}
	return e.status.Place != nil && e.status.Place.Kubernetes &&
		e.status.Supervisor.Kind != api.Systemd
}

// remedy chooses what to do on a node with a unit, or in a cluster.
func (e *examination) remedy(onNode, inCluster string) string {
	if e.inPod() {
		return inCluster
	}
	return onNode
}

// logRemedy says where the log is.
func (e *examination) logRemedy() string {
	return e.remedy("journalctl -u nsqueued",
		"kubectl logs, with -c nsqueued, of the pod on this node")
}
