// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"encoding/json"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/node"
	"github.com/nsqueue/nsqueue/test/chart/generate"
)

// Values that nobody means are refused, with their name.
func TestWrongValues(t *testing.T) {
	for values, want := range map[string]string{
		"failurePolicy: fail":                        "/failurePolicy",
		"failurPolicy: Fail":                         "failurPolicy",
		"updateStrategy: {maxUnavailable: 1}":        "/updateStrategy/maxUnavailable",
		"updateStrategy: {maxSurge: 0}":              "/updateStrategy/maxSurge",
		"resources: {limits: {cpu: 1}}":              "/resources",
		"cni: {resources: {limits: {cpu: 100m}}}":    "/cni/resources",
		"excludeNamespaces: kube-system":             "/excludeNamespaces",
		"image: {tag: 'a b'}":                        "/image/tag",
		"image: {digest: 'sha256:12'}":               "/image/digest",
		"config: {queue: {size: 5}}":                 "/config/queue",
		"config: {socket: /tmp/other.sock}":          "/config",
		"rules: {web.yml: 'kind: RuleSet'}":          "web.yml",
		"rules: {web.yaml: {kind: RuleSet}}":         "/rules/web.yaml",
		"hook: {kind: nft, load: true}":              "/hook",
		"cni: {mode: append, network: cbr0}":         "/cni",
		"cni: {podAnnotations: [nsqueue.io/all]}":    "/cni/podAnnotations",
		"host: {netnsDirs: []}":                      "/host/netnsDirs",
		"host: {cniConfDir: etc/cni}":                "/host/cniConfDir",
		"host: {cniBinDir: '/opt/cni/bin/'}":         "/host/cniBinDir",
		"capabilities: [CAP_NET_ADMIN, SYS_ADMIN]":   "/capabilities",
		"capabilities: [NET_RAW]":                    "/capabilities",
		"supervisor: {linger: 1m}":                   "/supervisor/linger",
		"terminationGracePeriodSeconds: 30":          "terminationGracePeriodSeconds",
		"metrics: {serviceMonitor: {enabled: true}}": "metrics.enabled",
		"worker: {args: [--x]}":                      "worker.command",
		"global: {}\nhost: {runDir: /run/other}":     "/host",
	} {
		r := generate.Static()
		r.Values = values
		_, _, err := load(t).Render(&r)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want an error with %s, have %v", values, want, err)
		}
	}
}

func TestOldKubernetes(t *testing.T) {
	r := generate.Static()
	r.KubeVersion = "1.24"
	if _, _, err := load(t).Render(&r); err == nil || !strings.Contains(err.Error(), "1.25") {
		t.Error(err)
	}
}

// schema is a part of the chart's.
type schema struct {
	Properties map[string]*schema `json:"properties"`
}

// The schema has the keys of nsqueued's file, but for those that the chart sets itself.
func TestConfigKeys(t *testing.T) {
	var s schema
	text := read(t, filepath.Join(root, generate.Chart, "values.schema.json"))
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	set := []string{
		"adopt", "apiVersion", "failurePolicy", "hook", "kind", "kmodSysctls", "logFormat", "logLevel",
		"metricsAddress", "rules.directory", "socket", "stateDir",
	}
	compareKeys(t, "", s.Properties["config"], reflect.TypeFor[node.Config](), set)
}

func compareKeys(t *testing.T, prefix string, s *schema, typ reflect.Type, set []string) {
	t.Helper()
	for f := range typ.Fields() {
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		name := prefix + key
		sub := s.Properties[key]
		switch {
		case slices.Contains(set, name):
			if sub != nil {
				t.Errorf("values may have config.%s, which the chart sets", name)
			}
		case sub == nil:
			t.Errorf("values.schema.json lacks config.%s", name)
		case sub.Properties != nil:
			compareKeys(t, name+".", sub, f.Type, set)
		}
		delete(s.Properties, key)
	}
	for key := range s.Properties {
		t.Errorf("nsqueued has no key %s%s", prefix, key)
	}
}

// Each value of values.yaml passes the schema, and the versions are the project's.
func TestVersions(t *testing.T) {
	version, appVersion, _ := load(t).Metadata()
	conf := read(t, filepath.Join(root, "kmod/dkms.conf"))
	if !strings.Contains(conf, `PACKAGE_VERSION="`+version+`"`) || version != appVersion {
		t.Errorf("the chart has the versions %s and %s; kmod/dkms.conf has another one",
			version, appVersion)
	}
	pod := read(t, filepath.Join(root, "deploy/image/pod.yaml"))
	if !strings.Contains(pod, "ghcr.io/nsqueue/nsqueue:"+version+"\n") {
		t.Errorf("deploy/image/pod.yaml has another version than %s", version)
	}
}
