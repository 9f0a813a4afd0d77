// SPDX-License-Identifier: Apache-2.0

package pcap

import "strings"

// Pod returns the pod whose packets nsqueuectl has captured on an interface. Captures of
// other programs have none, nor have containers that nobody gave a pod's name.
func (i *Interface) Pod() (namespace, name string, ok bool) {
	rest, ours := strings.CutPrefix(i.Description, "container ")
	container, _, two := strings.Cut(rest, ", interface ")
	if !ours || !two || !strings.HasPrefix(i.program, "nsqueuectl ") {
		return "", "", false
	}
	namespace, name, ok = strings.Cut(i.Name, "/")
	if !ok || namespace == "" || name == "" || i.Name == unnamed(container, rest) {
		return "", "", false
	}
	return namespace, name, true
}

// unnamed is what nsqueuectl calls a container without a pod: the start of its ID, and its
// interface. Where a capture is of several nodes, its node follows.
func unnamed(container, rest string) string {
	const short = 12
	_, ifname, _ := strings.Cut(rest, ", interface ")
	ifname, _, _ = strings.Cut(ifname, ", node ")
	return container[:min(len(container), short)] + "/" + ifname
}
