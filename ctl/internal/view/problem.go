// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// Problem names the pod, the problem and its consequence.
func Problem(p *api.Problem) string {
	name := ShortID(p.ContainerID) + "/" + p.Ifname
	if p.Pod.Name != "" {
		name = p.Pod.String() + ", " + name
	}
	return fmt.Sprintf("%s: %s; %s", name, p.Message, consequence(p))
}

// consequence says what a problem means to the pod.
func consequence(p *api.Problem) string {
	what := "packets pass uninspected"
	if p.FailurePolicy == api.Fail && !p.PastHook {
		what = "packets are dropped"
	}
	if p.Inspector {
		return "some " + what
	}
	return what
}
