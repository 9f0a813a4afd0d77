// SPDX-License-Identifier: Apache-2.0

package evasion

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// http is a connection of the pod's to a web server.
func (p *player) http() *conn { return p.conn("10.0.0.1:40000", "203.0.113.5:80").open() }

// request is the play of a client that sends texts. NAME stands for the name, and NA and ME
// for its parts.
func request(segments ...string) func(p *player, name string) {
	return func(p *player, name string) {
		c := p.http()
		fill := strings.NewReplacer("NAME", name, "NA", name[:6], "ME", name[6:])
		for _, s := range segments {
			c.say([]byte(fill.Replace(s)))
			if last(p.got) == "accept" {
				c.reply([]byte("HTTP/1.1 200 OK\r\n\r\n"))
			}
		}
	}
}

func TestHTTP(t *testing.T) {
	const good = "GET / HTTP/1.1\r\nHost: " + allowedName + "\r\n\r\n"
	const bad = "GET / HTTP/1.1\r\nHost: NAME\r\n\r\n"
	const half, otherHalf = "GET / HTTP/1.1\r\nHost: NA", "ME\r\n\r\n"
	chunked := "POST / HTTP/1.1\r\nHost: " + allowedName + "\r\nTransfer-Encoding: chunked\r\n\r\n"
	sized := func(n int) string {
		return fmt.Sprintf("POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n", allowedName, n)
	}
	runEvasions(t, []evasion{
		{name: "request", want: "reject", play: request(bad)},
		{name: "another port", want: "reject", play: func(p *player, name string) {
			p.conn("10.0.0.1:40000", "203.0.113.5:8080").open().say(get(name))
		}},
		{name: "upper case, port and final dot", want: "reject", play: request("GET / HTTP/1.1\r\nhOST:\tNAME.:80 \r\n\r\n")},
		{name: "split inside the host", want: "pass reject", play: request(half, otherHalf)},
		{name: "second request in a segment", want: "reject", play: request(good + bad)},
		{name: "second request later", want: "accept reject", play: request(good, bad)},
		{name: "second request in pieces", want: "accept accept reject", play: request(good, half, otherHalf)},
		{name: "behind a body", want: "accept reject", play: request(sized(9), "123456789"+bad)},
		{name: "behind a chunked body", want: "accept reject", play: request(chunked, "5;a=b\r\n12345\r\n0\r\nTrailer: x\r\n\r\n"+bad)},
		{name: "behind a large body", want: "reject", play: func(p *player, name string) {
			c := p.http()
			p.quietly(func() {
				c.say([]byte(sized(200_000)))
				for range 200 {
					c.say(slices.Repeat([]byte("a"), 1000))
					c.answer(ack, nil)
				}
			})
			c.say(get(name))
		}},
		{name: "body that looks like a request", want: "accept accept", always: true, play: request(sized(len(bad)), strings.ReplaceAll(bad, "NAME", "aaaa"))},
	})
}

func TestRequestTarget(t *testing.T) {
	runEvasions(t, []evasion{
		{name: "absolute target", want: "reject", play: request("GET http://NAME/ HTTP/1.1\r\nHost: NAME\r\n\r\n")},
		{name: "HTTP/1.0 without a host", want: "reject", deny: "accept", strict: "accept", always: true, play: request("GET / HTTP/1.0\r\n\r\n")},
		{name: "CONNECT", want: "reject", play: request("CONNECT NAME:443 HTTP/1.1\r\nHost: NAME:443\r\n\r\n")},
	})
}

func TestStrictHTTP(t *testing.T) {
	var list []evasion
	for name, text := range map[string]string{
		"absolute target against the host":    "GET http://NAME/ HTTP/1.1\r\nHost: " + allowedName + "\r\n\r\n",
		"host against the absolute target":    "GET http://" + allowedName + "/ HTTP/1.1\r\nHost: NAME\r\n\r\n",
		"two hosts":                           "GET / HTTP/1.1\r\nHost: " + allowedName + "\r\nHost: NAME\r\n\r\n",
		"folded line":                         "GET / HTTP/1.1\r\nHost:\r\n NAME\r\n\r\n",
		"line feed without carriage return":   "GET / HTTP/1.1\nHost: NAME\n\n",
		"space before the colon":              "GET / HTTP/1.1\r\nHost : NAME\r\n\r\n",
		"zero byte in a header":               "GET / HTTP/1.1\r\nA: \x00\r\nHost: NAME\r\n\r\n",
		"headers of more than 8 KiB":          "GET / HTTP/1.1\r\nA: " + strings.Repeat("a", 9<<10) + "\r\nHost: NAME\r\n\r\n",
		"length and chunks":                   "POST / HTTP/1.1\r\nHost: NAME\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
		"two lengths":                         "POST / HTTP/1.1\r\nHost: NAME\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
		"chunks that are not the last coding": "POST / HTTP/1.1\r\nHost: NAME\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
		"host with a path":                    "GET / HTTP/1.1\r\nHost: " + allowedName + "/NAME\r\n\r\n",
		"host with a user":                    "GET / HTTP/1.1\r\nHost: " + allowedName + "@NAME\r\n\r\n",
	} {
		list = append(list, evasion{name: name, want: "reject", deny: "accept", always: true, play: request(text)})
	}
	runEvasions(t, list)
}

// Behind a request for another protocol there are no requests: its own rule decided.
func TestTunnel(t *testing.T) {
	upgrade := "GET / HTTP/1.1\r\nHost: " + allowedName + "\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
	connect := "CONNECT " + allowedName + ":443 HTTP/1.1\r\nHost: " + allowedName + ":443\r\n\r\n"
	runEvasions(t, []evasion{
		{name: "request behind an upgrade that was refused", want: "accept reject", play: request(upgrade, "GET / HTTP/1.1\r\nHost: NAME\r\n\r\n")},
		{name: "behind an upgrade", want: "accept accept", always: true, play: request(upgrade, "\x81\x05hello")},
		{name: "TLS behind CONNECT", want: "accept accept", always: true, play: request(connect, "\x16\x03\x01\x00\x05hello")},
	})
}

func TestHTTP2(t *testing.T) {
	preface := "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	runEvasions(t, []evasion{
		{name: "HTTP/2 without TLS", want: "reject", deny: "accept", strict: "accept", always: true, play: request(preface)},
	})
	t.Run("refused by app.protocol", func(t *testing.T) {
		p := newPlayer(t, "\n  rules: [{name: h2, when: app.protocol == 'h2', action: reject}]")
		request(preface)(p, allowedName)
		p.end("reject")
	})
}
