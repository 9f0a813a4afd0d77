// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"

	"github.com/nsqueue/nsqueue/ctl/internal/view"
	"github.com/nsqueue/nsqueue/daemon/api"
)

// id is a container ID as the output shows it: whole in wide tables.
func (c *command) id(id string) string {
	if c.output == "wide" {
		return id
	}
	return view.ShortID(id)
}

// parsePod reads NAMESPACE/NAME.
func parsePod(s string) (api.Pod, error) {
	if s == "" {
		return api.Pod{}, nil
	}
	namespace, name, ok := strings.Cut(s, "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return api.Pod{}, usageErrorf("pod %q: want NAMESPACE/NAME", s)
	}
	return api.Pod{Namespace: namespace, Name: name}, nil
}
