// SPDX-License-Identifier: Apache-2.0

package evasion

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// paired lets only servers pass that the pod has resolved an allowed name to.
const paired = `
  default: reject
  sets: {allowed: {domains: ["*.allowed.example"]}}
  rules:
  - {name: dns, when: app.protocol == "dns", action: accept}
  - {name: tls, when: 'sets.allowed.contains(tls.sni) && server.names.exists(n, sets.allowed.contains(n))', action: accept}
`

// resolve asks for a name, and gets the answer that message makes of the question.
func (p *player) resolve(name string, message func(q []byte) []byte) {
	p.tb.Helper()
	p.quietly(func() {
		q := query(7, name)
		p.send(udpPacket(addrPort("10.0.0.1:4000"), addrPort("10.96.0.10:53"), q))
		p.send(udpPacket(addrPort("10.96.0.10:53"), addrPort("10.0.0.1:4000"), message(q)))
	})
}

// hello begins a connection with the allowed name, and tells what becomes of it.
func (p *player) hello(server string) string {
	p.tb.Helper()
	p.conn("10.0.0.1:40000", server+":443").open().say(record(helloOf(allowedName)))
	return last(p.got)
}

// Whose name a client says is for the client to choose; what a pod has resolved to an address
// is not.
func TestResolvedNames(t *testing.T) {
	const server = "203.0.113.5"
	plain := func(q []byte) []byte { return answer(q, address(server)) }
	for _, c := range []struct {
		name string
		play func(p *player)
		want string
	}{
		{"resolved", func(p *player) { p.resolve(allowedName, plain) }, "accept"},
		{"another server by its allowed name", func(*player) {}, "reject"},
		{"encrypted hello to a server of another name", func(p *player) { p.resolve(blockedName, plain) }, "reject"},
		{"answer that nobody asked for", func(p *player) {
			p.quietly(func() {
				p.send(udpPacket(addrPort("10.0.0.1:4000"), addrPort("10.96.0.10:53"), query(6, "www.other.example")))
				p.send(udpPacket(addrPort("10.96.0.10:53"), addrPort("10.0.0.1:4000"), plain(query(7, allowedName))))
			})
		}, "reject"},
		{"wrong ID", func(p *player) {
			p.resolve(allowedName, func(q []byte) []byte { q[1]++; return plain(q) })
		}, "reject"},
		{"from another server", func(p *player) {
			q := query(7, allowedName)
			p.send(udpPacket(addrPort("10.0.0.1:4000"), addrPort("10.96.0.10:53"), q))
			p.send(udpPacket(addrPort("10.96.0.11:53"), addrPort("10.0.0.1:4000"), plain(q)))
			p.got = nil // it is nobody's answer
		}, "reject"},
		{"answer to another name", func(p *player) {
			p.resolve(blockedName, func([]byte) []byte { return plain(query(7, allowedName)) })
		}, "reject"},
		{"record of a name that was not asked for", func(p *player) {
			p.resolve(blockedName, func(q []byte) []byte {
				return answer(q, resource(allowedName, 1, 60, addr(server).AsSlice()))
			})
		}, "reject"},
		{"chain of names", func(p *player) {
			p.resolve(allowedName, func(q []byte) []byte {
				return answer(q, resource("", 5, 60, dnsName(nil, "a.cdn.example")), resource("a.cdn.example", 5, 60, dnsName(nil, "b.cdn.example")),
					resource("b.cdn.example", 1, 60, addr(server).AsSlice()))
			})
		}, "accept"},
		{"answer that is cut off", func(p *player) {
			p.resolve(allowedName, func(q []byte) []byte { b := plain(q); return b[:len(b)-2] })
		}, "reject"},
		{"200 addresses", func(p *player) {
			p.resolve(allowedName, func(q []byte) []byte {
				var list [][]byte
				for i := range 200 { // more than are kept
					list = append(list, address(fmt.Sprintf("203.0.113.%d", i)))
				}
				return answer(q, list...)
			})
			p.conn("10.0.0.1:40001", "203.0.113.99:443").open().say(record(helloOf(allowedName)))
		}, "accept"},
		{"time to live of 0", func(p *player) {
			p.resolve(allowedName, func(q []byte) []byte { return answer(q, resource("", 1, 0, addr(server).AsSlice())) })
			p.wait(25 * time.Second)
		}, "accept"},
		{"after the time to live", func(p *player) {
			p.resolve(allowedName, plain)
			p.wait(65 * time.Second)
		}, "reject"},
		{"time to live of a year", func(p *player) {
			p.resolve(allowedName, func(q []byte) []byte { return answer(q, resource("", 1, 365*86400, addr(server).AsSlice())) })
			p.wait(61 * time.Minute)
		}, "reject"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlayer(t, paired)
			c.play(p)
			if got := p.hello(server); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			if slices.Contains(p.got[:len(p.got)-1], "reject") {
				t.Errorf("before that: %s", p.got)
			}
		})
	}
}
