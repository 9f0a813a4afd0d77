// SPDX-License-Identifier: Apache-2.0

package node

import (
	"strings"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/internal/external"
	"github.com/nsqueue/nsqueue/daemon/internal/programs"
)

func TestDescriptorConfig(t *testing.T) {
	c, err := parseConfig([]byte(header + `inspectors:
- {name: a, socket: /run/i.sock, transport: descriptor, allowDescriptor: true, pods: {},
   onFailure: Accept, descriptor: {queue: 80, path: Direct}}
`))
	if err != nil {
		t.Fatal(err)
	}
	one := c.Inspectors[0].effective()
	s, err := one.server(&c)
	if err != nil {
		t.Fatal(err)
	}
	o, e := &outside{}, external.Entry{}
	o.makeDescriptor(&one, s, &e)
	p := o.programs[0]
	if p.Spec.Queue != 80 || p.Spec.Queues != 1 || !p.Direct || p.Budget != time.Second ||
		p.Away != programs.AwayAccept || p.Lender == nil || e.Inspector == nil {
		t.Errorf("%+v", p)
	}
	if c.moveQueues(); c.Queue.Number != 180 {
		t.Errorf("nsqueued's queue is %d, want 180", c.Queue.Number)
	}
}

func TestDescriptorRefused(t *testing.T) {
	const asked = "transport: descriptor, allowDescriptor: true, descriptor: {queue: 80"
	for text, want := range map[string]string{
		"transport: descriptor, descriptor: {queue: 80}":    "allowDescriptor: the transport",
		"transport: descriptor, allowDescriptor: true":      ".descriptor: want the number",
		asked + ", path: Aside}":                            `.descriptor.path: "Aside"`,
		asked + ", path: Direct}":                           "give it pods",
		asked + "}, user: ids":                              "neither user nor group",
		asked + "}, group: ids":                             "neither user nor group",
		"allowDescriptor: true":                             ".transport: want descriptor",
		"transport: memfd, descriptor: {queue: 80}":         ".transport: want descriptor",
		asked + "}, exec: {command: [/bin/true], queue: 1}": "want a socket, or exec",
	} {
		_, err := parseConfig([]byte(header + "inspectors: [{name: a, " + sock + ", " + text + "}]\n"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", text, err, want)
		}
	}
}
