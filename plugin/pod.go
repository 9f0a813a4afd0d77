// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/cnipod"
)

// The annotations by which a pod may ask for less, where it is allowed to.
const (
	inspectName = cnipod.InspectName
	policyName  = cnipod.PolicyName
)

// decision is how a pod is treated.
type decision struct {
	inspect  bool
	policy   api.Policy
	warnings []string
	refusal  string // why the pod must not start
}

// decide joins the configuration with the pod's annotations.
func decide(c *config, namespace string) decision {
	s := cnipod.Settings{
		Policy: c.FailurePolicy, ExcludeNamespaces: c.ExcludeNamespaces,
		Lowering: c.PodAnnotations, Annotations: c.annotations,
	}
	d := s.Decide(namespace)
	return decision{
		inspect: d.Inspect, policy: d.Policy, warnings: d.Warnings, refusal: d.Refusal,
	}
}
