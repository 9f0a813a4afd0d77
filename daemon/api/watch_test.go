// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

func TestWatchRequestArrives(t *testing.T) {
	d := apitest.Daemon{WatchEnds: true}
	c := api.NewClient(d.Start(t))
	want := []api.WatchRequest{
		{},
		{
			Namespace: "a&b=c", Pod: "ü", Direction: "in", Protocol: "sctp", Port: 65535,
			Verdict: "drop", Rate: 1000, Payload: api.MaxPayload, Address: "fd00::/8", NoProbes: true,
			Rule: "a/b",
		},
		{Protocol: "255"},
	}
	for _, req := range want {
		if err := c.Watch(t.Context(), req, nil, nil); !errors.Is(err, api.ErrUnavailable) {
			t.Errorf("%+v: %v", req, err)
		}
	}
	if diff := cmp.Diff(want, d.Watched()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// A filter that is misspelt must not pass for none, from no client.
func TestWatchRequestRefused(t *testing.T) {
	var d apitest.Daemon
	socket := d.Start(t)
	long := strings.Repeat("a", 257)
	for query, message := range map[string]string{
		"prot=tcp":                    `parameter "prot" is unknown`,
		"prot=1":                      `parameter "prot" is unknown`,
		"port=65536":                  `parameter "port": "65536": want a number from 0 to 65535`,
		"port=-1":                     `parameter "port": "-1": want a number from 0 to 65535`,
		"port=1&port=2":               `parameter "port": want one value`,
		"pod=":                        `parameter "pod": want one value`,
		"direction=up":                `direction "up": want one of [in out forward unknown]`,
		"verdict=ACCEPT":              `verdict "ACCEPT": want one of [accept drop queue reject none]`,
		"protocol=256":                `protocol "256": want one of`,
		"payload=65536":               "payload of 65536 bytes: want 0 to 65535",
		"noProbes=1":                  `parameter "noProbes": "1" is not true`,
		"address=10.0.0":              `address "10.0.0": want one such as 10.0.0.1`,
		"address=10.0.0.0/x":          `address "10.0.0.0/x": want`,
		"address=fe80::1%25":          `address "fe80::1%": want`,
		"address=fe80::1%251":         `address "fe80::1%1": want`,
		"address=::ffff:10.0.0.0/104": `address "::ffff:10.0.0.0/104": want`,
		"rule=a/":                     `rule "a/": want SET or SET/RULE`,
		"rule=/a":                     `rule "/a": want SET or SET/RULE`,
		"rule=%ff":                    `rule "\xff": want SET or SET/RULE`,
		"rule=" + long:                "of at most 256 bytes",
		"rule=a&rule=b":               `parameter "rule": want one value`,
		"%zz":                         "parse query:",
		"payload=4294967296":          `parameter "payload": "4294967296": want a number from 0 to 4294967295`,
	} {
		r := dial(t, socket)
		r.send(request("GET", "/v1/watch?"+query, ""), 0)
		code, msg, _ := r.receive()
		if code != api.CodeInvalidConfig || !strings.Contains(msg, message) {
			t.Errorf("%s: code %d, %s", query, code, msg)
		}
	}
	err := api.NewClient(socket).Watch(t.Context(), api.WatchRequest{Payload: -1}, nil, nil)
	if api.CodeOf(err) != api.CodeInvalidConfig {
		t.Errorf("%v", err)
	}
	if got := d.Watched(); got != nil {
		t.Errorf("the daemon was asked: %v", got)
	}
}

// Those who only look see who talks to whom, not what they say.
func TestObserversSeeNoContent(t *testing.T) {
	d := apitest.Daemon{Packets: []api.PacketEvent{{Packet: 1}}}
	c := api.NewClient(d.StartObservers(t, -1))
	err := c.Watch(t.Context(), api.WatchRequest{Payload: 1}, nil, nil)
	if api.CodeOf(err) != api.CodeReadOnly {
		t.Errorf("%v, want code %d", err, api.CodeReadOnly)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = c.Watch(ctx, api.WatchRequest{Port: 53}, nil, func([]api.PacketEvent) error {
		cancel()
		return nil
	})
	if got := d.Watched(); err != nil || len(got) != 1 || got[0].Port != 53 {
		t.Errorf("%v, %v", got, err)
	}
}

// What is accepted means the same when it is written again.
func FuzzParseWatch(f *testing.F) {
	for _, query := range []string{
		"", "port=53&protocol=udp", "pod=a&namespace=b&direction=in", "payload=1&rate=2&verdict=drop",
		"address=10.0.0.0/8&noProbes=true", "rule=a/b&verdict=reject", "%", "a;b", "port=1&port=1",
	} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		req, err := api.ParseWatch(query)
		if err != nil {
			return
		}
		again, err := api.ParseWatch(req.Query())
		if err != nil || again != req {
			t.Errorf("%q: %+v, then %+v, %v", query, req, again, err)
		}
	})
}
