// SPDX-License-Identifier: Apache-2.0

package adopt

import (
	"encoding/base64"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/cnipod"
)

// Configurations that pods were made with: flannel's own, and with our entry.
const (
	stockConfig = `{"name":"cbr0","cniVersion":"0.3.1","plugins":[{"type":"flannel"},{"type":"portmap"}]}`
	oursConfig  = `{"name":"cbr0","plugins":[{"type":"flannel"},{"type":"nsqueue","failurePolicy":"Fail",` +
		`"excludeNamespaces":["kube-system"],"podAnnotations":["inspect"],"socket":"/s"}]}`
)

// recordName is the name of the file with [recordText].
const recordName = "cbr0-c0ffee-eth0"

// recordText is a file as libcni 1.3 writes it, for flannel's bridge.
func recordText(config string) string {
	return `{"kind":"cniCacheV1","containerId":"c0ffee","config":"` +
		base64.StdEncoding.EncodeToString([]byte(config)) + `","ifName":"eth0","networkName":"cbr0",` +
		`"netns":"/run/netns/cni-1","cniArgs":[["IgnoreUnknown","1"],["K8S_POD_NAMESPACE","default"],` +
		`["K8S_POD_NAME","web"],["K8S_POD_UID","u"]],"capabilityArgs":{` +
		`"io.kubernetes.cri.pod-annotations":{"nsqueue.io/inspect":"true"},"portMappings":[]},` +
		`"result":{"cniVersion":"0.3.1","dns":{},"interfaces":[{"mac":"02:00:00:00:00:01","name":"cni0"},` +
		`{"name":"veth1"},{"mac":"02:00:00:00:00:02","name":"eth0","sandbox":"/run/netns/cni-1"}],` +
		`"ips":[{"address":"10.244.7.5/24","gateway":"10.244.7.1","interface":2,"version":"4"}],` +
		`"routes":[{"dst":"10.244.0.0/16"}]}}`
}

func addrs(texts ...string) []netip.Addr {
	all := []netip.Addr{}
	for _, t := range texts {
		all = append(all, netip.MustParseAddr(t))
	}
	return all
}

func TestParseRecord(t *testing.T) {
	base := record{
		key: api.Key{ContainerID: "c0ffee", Ifname: "eth0"}, network: "cbr0",
		pod:       api.Pod{Namespace: "default", Name: "web", UID: "u"},
		netnsPath: "/run/netns/cni-1", addresses: addrs("10.244.7.5"),
		settings: cnipod.Settings{Annotations: map[string]string{"nsqueue.io/inspect": "true"}},
	}
	replace := func(text string, pairs ...string) string {
		if r := strings.NewReplacer(pairs...).Replace(text); r != text {
			return r
		}
		t.Fatalf("%q is not in the text", pairs)
		return ""
	}
	stock := recordText(stockConfig)
	same := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	for name, test := range map[string]struct {
		text   string
		change func(*record)
	}{
		"stock": {stock, func(*record) {}},
		"our entry": {recordText(oursConfig), func(r *record) {
			r.settings.Policy = api.Fail
			r.settings.ExcludeNamespaces = []string{"kube-system"}
			r.settings.Lowering = []string{"inspect"}
		}},
		"an entry that passes no annotation on": {
			recordText(`{"plugins":[{"type":"nsqueue","passAnnotations":[]}]}`),
			func(r *record) { r.settings.Passing = []string{} },
		},
		"libcni 0.8": {
			replace(stock, `"netns":"/run/netns/cni-1",`, ""),
			func(r *record) { r.netnsPath = "" },
		},
		"a plugin's configuration and no list": {
			recordText(`{"type":"bridge","name":"cbr0"}`),
			func(*record) {},
		},
		"both families, no interface named, link-local": {
			replace(stock, `"interface":2,`, "", `"ips":[`,
				`"ips":[{"address":"fe80::1/64"},{"address":"fd00::5/64"},`),
			func(r *record) { r.addresses = addrs("10.244.7.5", "fd00::5") },
		},
		"of another interface": {
			replace(stock, `"interface":2`, `"interface":1`),
			func(r *record) { r.addresses = addrs() },
		},
		"no result": {
			replace(stock, `"result":`, `"x":`),
			func(r *record) { r.addresses = addrs() },
		},
		"no pod, no annotations": {
			replace(stock, "cniArgs", "x", "capabilityArgs", "y"),
			func(r *record) { r.pod, r.settings.Annotations = api.Pod{}, nil },
		},
	} {
		want := base
		test.change(&want)
		got, err := parseRecord(recordName, []byte(test.text))
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(record{}), same); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got)\n%s", name, err, diff)
		}
	}
}

func TestParseRecordRefuses(t *testing.T) {
	for name, test := range map[string]struct{ old, new, mentions string }{
		"no JSON":            {"{", "", "invalid"},
		"a bare result":      {`"kind":"cniCacheV1",`, "", "kind"},
		"newer kind":         {"cniCacheV1", "cniCacheV2", "cniCacheV2"},
		"copied file":        {"c0ffee", "c0ffed", "cbr0-c0ffed-eth0"},
		"no network":         {`"networkName":"cbr0"`, `"networkName":""`, "about"},
		"container ID":       {"c0ffee", "../c0ffee", "container ID"},
		"interface":          {`"ifName":"eth0"`, `"ifName":"a/b"`, "interface"},
		"relative netns":     {"/run/netns/cni-1", "run/netns/cni-1", "absolute"},
		"no address":         {"10.244.7.5/24", "10.244.7.5", "10.244.7.5"},
		"empty address":      {`"address":"10.244.7.5/24",`, "", "without an address"},
		"interface missing":  {`"interface":2`, `"interface":3`, "interface 3"},
		"negative interface": {`"interface":2`, `"interface":-1`, "interface -1"},
		"annotations":        {`{"nsqueue.io/inspect":"true"}`, `["nsqueue.io/inspect"]`, "annotations"},
		"configuration":      {`"config":"`, `"config":"AAAA`, "CNI configuration"},
		"arguments":          {`["IgnoreUnknown","1"]`, `"IgnoreUnknown=1"`, "cniArgs"},
	} {
		text := strings.Replace(recordText(oursConfig), test.old, test.new, 1)
		_, err := parseRecord(recordName, []byte(text))
		if err == nil || !strings.Contains(err.Error(), test.mentions) {
			t.Errorf("%s: %v, want an error that mentions %q", name, err, test.mentions)
		}
	}
	for _, config := range []string{
		strings.Replace(oursConfig, `"Fail"`, `"Open"`, 1),
		strings.Replace(oursConfig, `["kube-system"]`, `"kube-system"`, 1),
	} {
		_, err := parseRecord(recordName, []byte(recordText(config)))
		if err == nil || !strings.Contains(err.Error(), "entry nsqueue") {
			t.Errorf("%s: %v, want an error about our entry", config, err)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	for _, config := range []string{stockConfig, oursConfig, `{}`} {
		f.Add(recordName, []byte(recordText(config)))
	}
	f.Add("", []byte(`{"kind":"cniCacheV1"}`))
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		r, err := parseRecord(name, b)
		if err != nil {
			return
		}
		if err := r.key.Validate(); err != nil {
			t.Error(err)
		}
		if !slices.IsSortedFunc(r.addresses, netip.Addr.Compare) {
			t.Errorf("addresses %v are in no order", r.addresses)
		}
		if p := r.settings.Policy; p != "" && p.Validate() != nil {
			t.Errorf("policy %q", p)
		}
	})
}
