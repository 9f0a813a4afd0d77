// SPDX-License-Identifier: Apache-2.0

package suggest

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// Accepting returns a set that accepts for a pod what was refused, and nothing else. It is
// asked before a set of the priority, and leaves all else to the sets after it.
func Accepting(pod api.Pod, r *api.Refusal, priority int) (*Set, error) {
	condition, err := conditionOf(r)
	if err != nil {
		return nil, err
	}
	return &Set{
		APIVersion: "nsqueue.io/v1alpha1", Kind: "RuleSet",
		Metadata: map[string]string{"name": setName("allow", pod.Namespace, pod.Name)},
		Spec: Spec{
			Priority: max(0, priority-1), Mode: "Enforce", Default: "next",
			Pods:  podsOf(pod.Namespace, pod.Name),
			Rules: []Rule{{setName("allow", r.App, r.Name), condition, "accept"}},
		},
	}, nil
}

// conditionOf is true of what is like the refused flow: by the name that it asked for, or,
// where there is none, by the address.
func conditionOf(r *api.Refusal) (string, error) {
	if r.Direction != "in" && r.Direction != "out" {
		return "", fmt.Errorf("direction %q: want in or out", r.Direction)
	}
	all := []string{"flow.direction == " + strconv.Quote(r.Direction)}
	if r.Port != 0 {
		all = append(all, "server.port == "+strconv.Itoa(int(r.Port)))
	}
	a, named := appOf(r.App)
	switch {
	case named && isHostName(r.Name):
		all = append(all, a.condition, a.field+" == "+strconv.Quote(r.Name))
		return strings.Join(all, " && "), nil
	case named && r.Name != "":
		return "", fmt.Errorf("%s asks for %q, which is no name of a host", r.App, r.Name)
	}
	address, err := netip.ParseAddr(r.Address)
	if err != nil {
		return "", fmt.Errorf("address %q: %w", r.Address, err)
	}
	end := map[string]string{"out": "server.ip", "in": "client.ip"}[r.Direction]
	if !isWord(r.Protocol) {
		return "", fmt.Errorf("protocol %q: want a name or a number", r.Protocol)
	}
	return strings.Join(append(all, "flow.protocol == "+strconv.Quote(r.Protocol),
		end+" == ip("+strconv.Quote(address.Unmap().WithZone("").String())+")"), " && "), nil
}

func isWord(s string) bool { return s != "" && !strings.Contains(s, ".") && isHostName(s) }

// setName joins what is there of the words to a name that a set or a rule can have.
func setName(words ...string) string {
	name := strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), "-")
	name = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(name))
	return strings.Trim(name[:min(len(name), mostOfName)], "-")
}

// mostOfName is as much of a name as rules take.
const mostOfName = 63
