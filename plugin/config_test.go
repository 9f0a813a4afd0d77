// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
	"github.com/nsqueue/nsqueue/internal/cnipod"
)

// badConfigs are configurations with the code that ADD, CHECK, GC and STATUS
// give for them. DEL succeeds with every one of them.
func badConfigs() map[string]struct {
	config   string
	code     uint
	mentions string
} {
	type bad = struct {
		config   string
		code     uint
		mentions string
	}
	with := func(members string) string { return conf("/nowhere", prevResult, members) }
	return map[string]bad{
		"empty":           {``, 6, "decode"},
		"truncated":       {`{"cniVersion":"1.1.0","name":"n"`, 6, "decode"},
		"no object":       {`[1]`, 6, "decode"},
		"null":            {`null`, 6, "want a JSON object"},
		"two values":      {with(`"args":{}`) + "{}", 6, "decode"},
		"no name":         {`{"cniVersion":"1.1.0","type":"nsqueue"}`, 7, `"name"`},
		"bad name":        {`{"cniVersion":"1.1.0","name":"a/b","type":"nsqueue"}`, 7, `a/b`},
		"name type":       {`{"cniVersion":"1.1.0","name":7,"type":"nsqueue"}`, 7, `a string, got 7`},
		"no version":      {`{"name":"n","type":"nsqueue"}`, 1, "0.1.0"},
		"old version":     {`{"cniVersion":"0.2.0","name":"n","type":"nsqueue"}`, 1, "0.2.0"},
		"future version":  {`{"cniVersion":"9.0.0","name":"n","type":"nsqueue"}`, 1, "9.0.0"},
		"unknown key":     {with(`"failurepolicy":"Fail"`), 2, `"failurepolicy" (value "Fail")`},
		"two unknown":     {with(`"zz":1,"aa":2`), 2, `"aa" (value 2), "zz" (value 1)`},
		"socket type":     {with(`"socket":1`), 7, `"socket"`},
		"socket relative": {with(`"socket":"run/x.sock"`), 7, `absolute path`},
		"socket empty":    {with(`"socket":""`), 7, `"socket"`},
		"socket long":     {with(`"socket":"/` + strings.Repeat("x", 107) + `"`), 7, "107 bytes"},
		"socket zero":     {with(`"socket":"/a\u0000b"`), 7, `"socket"`},
		"policy type":     {with(`"failurePolicy":true`), 7, `want "Ignore" or "Fail", got true`},
		"policy value":    {with(`"failurePolicy":"fail"`), 7, `want "Ignore" or "Fail", got "fail"`},
		"policy empty":    {with(`"failurePolicy":""`), 7, `want "Ignore" or "Fail"`},
		"exclude type":    {with(`"excludeNamespaces":"kube-system"`), 7, `"excludeNamespaces"`},
		"exclude value":   {with(`"excludeNamespaces":["kube_system"]`), 7, `"kube_system"`},
		"exclude empty":   {with(`"excludeNamespaces":[""]`), 7, `got ""`},
		"annotation":      {with(`"podAnnotations":["nsqueue.io/inspect"]`), 7, `want "inspect" or`},
		"annotation type": {with(`"podAnnotations":{"inspect":true}`), 7, `"podAnnotations"`},
		"pattern":         {with(`"passAnnotations":["*/a"]`), 7, `"passAnnotations"`},
		"pattern type":    {with(`"passAnnotations":"a"`), 7, `"passAnnotations"`},
		"capabilities":    {with(`"capabilities":["portMappings"]`), 7, `"capabilities"`},
		"runtimeConfig":   {with(`"runtimeConfig":[]`), 7, `"runtimeConfig"`},
		"pod annotations": {
			with(`"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"a":1}}`), 7, keyAnnotations,
		},
		"attachments": {with(`"cni.dev/valid-attachments":{}`), 7, keyValidAttachments},
	}
}

func TestBadConfig(t *testing.T) {
	netns := apitest.OtherNetns(t)
	env := map[string]string{"CNI_NETNS": netns}
	for name, bad := range badConfigs() {
		t.Run(name, func(t *testing.T) {
			for _, command := range []string{"ADD", "CHECK", "GC", "STATUS"} {
				o := invocation{command: command, stdin: bad.config, env: env}.run()
				o.wantError(t, bad.code, bad.mentions)
			}
		})
	}
}

func TestPrevResultRequired(t *testing.T) {
	env := map[string]string{"CNI_NETNS": apitest.OtherNetns(t)}
	for _, members := range []string{
		`"args":{}`, `"prevResult":null`, `"prevResult":"x"`, `"prevResult":[]`,
	} {
		for _, command := range []string{"ADD", "CHECK"} {
			o := invocation{command: command, stdin: conf("/nowhere", members), env: env}.run()
			o.wantError(t, types.ErrInvalidNetworkConfig, "prevResult")
		}
	}
}

func TestCommandVersions(t *testing.T) {
	var d apitest.Daemon
	socket := d.Start(t)
	env := map[string]string{"CNI_NETNS": apitest.OtherNetns(t)}
	first := map[string]string{"ADD": "0.3.0", "CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}
	for command, from := range first {
		for _, version := range supported().SupportedVersions() {
			stdin := conf(socket, `"prevResult":{}`, `"cni.dev/valid-attachments":[]`)
			stdin = strings.Replace(stdin, "1.1.0", version, 1)
			o := invocation{command: command, stdin: stdin, env: env}.run()
			if version < from {
				o.wantError(t, types.ErrIncompatibleCNIVersion, command, from)
			} else if o.status != 0 {
				t.Errorf("%s at %s: %s", command, version, o.stdout)
			}
		}
	}
}

func TestParseConfig(t *testing.T) {
	const minimal = `{"cniVersion":"0.3.1","name":"cbr0","type":"nsqueue"`
	defaults := func(change func(*config)) *config {
		c := &config{
			cniVersion: "0.3.1", network: "cbr0", Entry: cnipod.DefaultEntry(),
		}
		change(c)
		return c
	}
	for name, test := range map[string]struct {
		members string
		want    *config
	}{
		"minimal": {``, defaults(func(*config) {})},
		"nulls": {
			`,"socket":null,"failurePolicy":null,"excludeNamespaces":null,"podAnnotations":null,` +
				`"passAnnotations":null,` +
				`"capabilities":null,"runtimeConfig":null,"args":null`,
			defaults(func(*config) {}),
		},
		"null annotations": {
			`,"runtimeConfig":{"io.kubernetes.cri.pod-annotations":null,"dns":{}}`,
			defaults(func(*config) {}),
		},
		"injected": {
			`,"capabilities":{"io.kubernetes.cri.pod-annotations":true},"ipam":{},"dns":{},` +
				`"args":{"cni":1},"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"a":"b"}}`,
			defaults(func(c *config) {
				c.Capabilities = map[string]bool{cnipod.AnnotationsCapability: true}
				c.annotations = map[string]string{"a": "b"}
			}),
		},
		"all of ours": {
			`,"socket":"/s","failurePolicy":"Fail","excludeNamespaces":["kube-system","a-1"],` +
				`"podAnnotations":["inspect","failure-policy"]`,
			defaults(func(c *config) {
				c.Socket, c.FailurePolicy = "/s", api.Fail
				c.ExcludeNamespaces = []string{"kube-system", "a-1"}
				c.PodAnnotations = []string{"inspect", "failure-policy"}
			}),
		},
		"GC": {
			`,"cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0"}],` +
				`"cni.dev/attachments":null`,
			defaults(func(c *config) {
				c.isGC, c.valid = true, []api.Key{{ContainerID: "a", Ifname: "eth0"}}
			}),
		},
		"GC of nothing": {
			`,"cni.dev/valid-attachments":null`, defaults(func(c *config) { c.isGC = true }),
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseConfig([]byte(minimal + test.members + "}"))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(config{})); diff != "" {
				t.Errorf("config (-want +got):\n%s", diff)
			}
		})
	}
}

// What the configuration reference is made of is what the plugin understands.
func TestEntryIsUnderstood(t *testing.T) {
	want := cnipod.Entry{
		Type: cnipod.PluginType, Socket: "/s", FailurePolicy: api.Fail,
		ExcludeNamespaces: []string{"kube-system"},
		PodAnnotations:    []string{cnipod.InspectName, cnipod.PolicyName},
		PassAnnotations:   []string{"nsqueue.io/*", "plain"},
		Capabilities:      map[string]bool{keyAnnotations: true},
	}
	fields := reflect.ValueOf(want)
	for i := range fields.NumField() {
		if fields.Field(i).IsZero() {
			t.Errorf("field %s is not tried", fields.Type().Field(i).Name)
		}
	}
	b, err := json.Marshal(struct {
		CNIVersion string `json:"cniVersion"`
		Name       string `json:"name"`
		cnipod.Entry
	}{"1.1.0", "cbr0", want})
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseConfig(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got.Entry); diff != "" {
		t.Errorf("entry (-want +got):\n%s", diff)
	}
}

func FuzzParseConfig(f *testing.F) {
	for _, bad := range badConfigs() {
		f.Add([]byte(bad.config))
	}
	f.Add([]byte(conf("/s", prevResult, `"runtimeConfig":{"io.kubernetes.cri.pod-annotations":null}`)))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseConfig(data)
		if err != nil {
			e, ok := errors.AsType[*types.Error](err)
			if !ok || !slices.Contains([]uint{1, 2, 6, 7}, e.Code) || e.Msg == "" {
				t.Errorf("error %#v", err)
			}
			return
		}
		if !filepath.IsAbs(c.Socket) || c.FailurePolicy.Validate() != nil || !validName(c.network) {
			t.Errorf("accepted %q as %+v", data, c)
		}
		if c.requirePrevResult() == nil && !json.Valid(c.prevResult) {
			t.Errorf("prevResult %q", c.prevResult)
		}
		c.decide("default")
	})
}
