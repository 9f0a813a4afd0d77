// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

const namedServers = `
  default: reject
  sets: {ok: {domains: [a.example]}}
  rules:
  - {name: dns, when: server.port == 53 && app.protocol == "dns", action: accept}
  - {name: named, when: 'server.names.exists(n, sets.ok.contains(n))', action: accept}`

func TestNames(t *testing.T) {
	b := newBench(t, namedServers)
	client, resolver := netipPort("10.0.0.1", 4000), netipPort("10.96.0.10", 53)
	q := query(7, "A.example")
	answer := func() { b.send(udp(resolver, client, response(q, "203.0.113.5", "203.0.113.6"))) }
	syn := func(server string, port int) Outcome {
		c := b.conn("10.0.0.1:1", server+":443")
		c.client = netipPort("10.0.0.1", port)
		return c.fromClient(2, 1, nil)
	}
	answer()
	b.want("an answer that nobody asked for", syn("203.0.113.5", 40000), "reject!")
	b.send(udp(client, resolver, q))
	b.send(udp(resolver, client, response(query(8, "a.example"), "203.0.113.5")))
	b.want("another ID", syn("203.0.113.5", 40001), "reject!")
	answer()
	b.want("named", syn("203.0.113.5", 40002), "accept!")
	b.want("named", syn("203.0.113.6", 40003), "accept!")
	b.want("not named", syn("203.0.113.7", 40004), "reject!")
	b.now += time.Minute + time.Second
	b.Tick(b.now)
	b.want("a connection keeps its name", b.send(tcp(netipPort("10.0.0.1", 40002), netipPort("203.0.113.5", 443), ack, 2, 1, nil, []byte("x"))), "accept!")
	b.SetRules(rulesOf(t, namedServers+"\n  - {name: n, when: server.port == 1, action: drop}"))
	b.want("after a reload, too", b.send(tcp(netipPort("10.0.0.1", 40002), netipPort("203.0.113.5", 443), ack, 2, 1, nil, []byte("x"))), "accept!")
	b.want("another does not", syn("203.0.113.5", 40005), "reject!")
}

func TestNamesOfResolvers(t *testing.T) {
	b := newBench(t, namedServers)
	b.Close()
	b.Pod = New(Config{Rules: rulesOf(t, namedServers), Resolvers: []netip.Addr{netip.MustParseAddr("10.96.0.10")}})
	client := netipPort("10.0.0.1", 4000)
	for _, of := range [][2]string{{"10.96.0.11", "reject!"}, {"10.96.0.10", "accept!"}} {
		resolver, want := of[0], of[1]
		server := netipPort(resolver, 53)
		q := query(7, "a.example")
		b.send(udp(client, server, q))
		b.send(udp(server, client, response(q, "203.0.113.5")))
		c := b.web()
		b.want(resolver, c.fromClient(syn, 1, nil), want)
		if want == "reject!" {
			continue
		}
		b.want("inbound", b.conn("203.0.113.5:50000", "10.0.0.1:443").fromClient(syn, 1, nil), "reject!")
	}
}

func shakeHands(c *conn) {
	c.fromClient(syn, c.cseq, nil)
	c.cseq++
	c.fromServer(syn|ack, c.sseq, nil)
	c.sseq++
}

func TestNamesOverTCP(t *testing.T) {
	for name, when := range map[string]string{
		"decided by its protocol": `server.port == 53 && app.protocol == "dns"`,
		"decided by its port":     "server.port == 53",
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, strings.Replace(namedServers, `server.port == 53 && app.protocol == "dns"`, when, 1))
			c := b.conn("10.0.0.1:40000", "10.96.0.10:53")
			shakeHands(c)
			q := query(7, "a.example")
			c.say(overTCP(q)[:5])
			b.want("other half", c.say(overTCP(q)[5:]), "accept")
			b.want("answer", c.reply(overTCP(response(q, "203.0.113.5"))), "accept")
			b.want("named", b.web().fromClient(syn, 1, nil), "accept!")
		})
	}
}

// What turns out to be no DNS settles as soon as that is known.
func TestNoNamesOverTCP(t *testing.T) {
	b := newBench(t, strings.Replace(namedServers, ` && app.protocol == "dns"`, "", 1))
	c := b.conn("10.0.0.1:40000", "10.96.0.10:53")
	shakeHands(c)
	b.want("what is no DNS", c.say([]byte("SSH-2.0-x\r\n")), "accept")
	b.want("confirmation", c.reply([]byte("x")), "accept!")
	b.told("accept s/dns")
}
