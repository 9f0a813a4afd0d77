// SPDX-License-Identifier: Apache-2.0

package node

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
)

const header = "apiVersion: nsqueue.io/v1alpha1\nkind: DaemonConfiguration\n"

func TestParseConfig(t *testing.T) {
	got, err := parseConfig([]byte(header + "failurePolicy: Fail\nprotocols: [icmp, \"17\"]\nqueue: {length: 16384}\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultConfig()
	want.FailurePolicy = api.Fail
	want.Protocols = []string{"icmp", "17"}
	want.Queue.Length = 16384
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseConfigRefuses(t *testing.T) {
	for name, tt := range map[string]struct{ text, names string }{
		"no header":        {"hook: nft\n", "apiVersion"},
		"newer version":    {"apiVersion: nsqueue.io/v2\nkind: DaemonConfiguration\n", "nsqueue.io/v2"},
		"unknown key":      {header + "failurePolcy: Fail\n", "failurePolcy"},
		"repeated key":     {header + "hook: nft\nhook: auto\n", "hook"},
		"unknown nested":   {header + "queue: {size: 1}\n", "size"},
		"policy":           {header + "failurePolicy: Open\n", "Open"},
		"hook":             {header + "hook: iptables\n", "iptables"},
		"relative socket":  {header + "socket: nsqueued.sock\n", "socket"},
		"relative sysctls": {header + "kmodSysctls: proc/sys/net\n", "kmodSysctls"},
		"queue length":     {header + "queue: {length: 100000}\n", "100000"},
		"coalesce":         {header + "queue: {coalesce: 1s}\n", "queue.coalesce"},
		"buffers":          {header + "queue: {receiveBufferTotal: 1}\n", "receiveBufferTotal 1"},
		"queue number":     {header + "queue: {number: 65536}\n", "number"},
		"protocol":         {header + "protocols: [quic]\n", "quic"},
		"direction":        {header + "directions: [up]\n", "up"},
		"no direction":     {header + "directions: []\n", "directions"},
		"log level":        {header + "logLevel: loud\n", "loud"},
		"log format":       {header + "logFormat: xml\n", "xml"},
		"metrics by name":  {header + "metricsAddress: localhost:9273\n", "localhost"},
		"no port":          {header + "metricsAddress: 127.0.0.1\n", "metricsAddress"},
		"metrics key":      {header + "metrics: {pods: true}\n", "pods"},
		"observers":        {header + "observe: {group: \"a:b\"}\n", "observe.group"},
		"netns directory":  {header + "adopt: {netnsDirs: [run/netns]}\n", "netnsDirs"},
		"no cache":         {header + "adopt: {cacheDir: \"\"}\n", "cacheDir"},
		"adopt key":        {header + "adopt: {exclude: []}\n", "exclude"},
		"rules directory":  {header + "rules: {directory: rules.d}\n", "rules.directory"},
		"rules key":        {header + "rules: {files: []}\n", "files"},
		"rules memory":     {header + "rules: {memory: 1000}\n", "rules.memory 1000"},
		"resolver":         {header + "rules: {resolvers: [dns.example]}\n", "dns.example"},
		"events file":      {header + "rules: {events: {file: eve.json}}\n", "rules.events.file"},
		"events socket":    {header + "rules: {events: {socket: eve}}\n", "rules.events.socket"},
		"no YAML":          {"\t", "yaml"},
	} {
		_, err := parseConfig([]byte(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.names) {
			t.Errorf("%s: %v, want an error that names %q", name, err, tt.names)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(header))
	f.Add([]byte(header + "queue: {length: 1}\nprotocols: [1]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseConfig(b)
		if err == nil && c.Validate() != nil {
			t.Errorf("accepted %+v", c)
		}
	})
}

// The file that the documentation shows is one that nsqueued takes.
func TestShownConfigIsValid(t *testing.T) {
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(page), "```yaml\n")
	text, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatal("docs/configuration.md shows no configuration")
	}
	if _, err := parseConfig([]byte(text)); err != nil {
		t.Error(err)
	}
}
