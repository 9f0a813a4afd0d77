// SPDX-License-Identifier: Apache-2.0

//go:build runtimes

package runtimes

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/test/nstest"
	"github.com/nsqueue/nsqueue/test/runtimes/record"
)

// conformanceDoc has the table of what the runtimes did in this test.
const conformanceDoc = "../../docs/runtimes.md"

// life of a pod, as its calls of the last plugin tell it.
type podCalls []*record.Call

// testCalls looks at every call that the runtimes have made, and compares what
// they have in common with the documentation.
func testCalls(t *testing.T, c *rig) {
	doc, err := os.ReadFile(conformanceDoc)
	nstest.Must(t, err)
	for _, n := range c.nodes {
		calls, err := record.Load(n.File(record.Dir))
		nstest.Must(t, err)
		pods := make(map[string]podCalls)
		for _, call := range calls {
			id := call.ContainerID()
			if strings.HasPrefix(id, crioPrefix) || strings.HasPrefix(id, nerdctlPrefix) || id == "" {
				continue // not by a runtime
			}
			pods[call.ContainerID()] = append(pods[call.ContainerID()], call)
		}
		if least := stormPods; len(pods) < least {
			t.Errorf("calls for %d pods are recorded on %s, want %d at least", len(pods), n.Name, least)
		}
		rows := make(map[string]int)
		for _, p := range pods {
			rows[n.row(t, p)]++
		}
		for row, times := range rows {
			if !strings.Contains(string(doc), row+"\n") {
				t.Errorf("in %s is no line for what %d pods did:\n%s", conformanceDoc, times, row)
			}
		}
		t.Logf("@@ %s: %d calls for %d pods, as documented", n.version, len(calls), len(pods))
	}
}

// row is a pod's line in the table.
func (n *node) row(t *testing.T, p podCalls) string {
	t.Helper()
	var verbs, netns, deletePrevious []string
	for _, call := range p {
		config, err := call.Config()
		nstest.Must(t, err)
		verb := call.Command()
		if call.Code != 0 {
			verb += " (fails)"
		}
		verbs = append(verbs, verb)
		netns = append(netns, shape(call.Env["CNI_NETNS"]))
		if call.Command() == "DEL" {
			_, has := config["prevResult"]
			deletePrevious = append(deletePrevious, yes(has))
		}
	}
	config, err := p[0].Config()
	nstest.Must(t, err)
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s | %s |", n.caller(p),
		strings.Trim(string(config["cniVersion"]), `"`), strings.Join(verbs, ", "),
		strings.Join(netns, ", "), strings.Join(deletePrevious, ", "),
		argNames(p[0].Env["CNI_ARGS"]), members(t, config["runtimeConfig"]), p[0].Dir)
}

// caller is the program that made the calls.
func (n *node) caller(p podCalls) string {
	if !strings.Contains(p[0].Env["CNI_ARGS"], "K8S_POD_UID") {
		return "podman 4.3.1"
	}
	return "containerd " + n.version
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// shape is a path without what is different for each pod.
func shape(path string) string {
	if path == "" {
		return "empty"
	}
	uuid := regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
	return uuid.ReplaceAllString(path, "UUID")
}

// argNames lists the names in CNI_ARGS.
func argNames(args string) string {
	var names []string
	for pair := range strings.SplitSeq(args, ";") {
		name, _, _ := strings.Cut(pair, "=")
		names = append(names, strings.TrimPrefix(name, "K8S_POD_"))
	}
	slices.Sort(names) // containerd's order is another each time
	return strings.Join(names, " ")
}

// members lists what runtimeConfig has.
func members(t *testing.T, runtimeConfig []byte) string {
	t.Helper()
	var m map[string]any
	if len(runtimeConfig) > 0 {
		nstest.Must(t, json.Unmarshal(runtimeConfig, &m))
	}
	names := slices.Sorted(maps.Keys(m))
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, " ")
}
