// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"
)

func get(host string) []byte {
	return []byte("GET /a?b=c HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: t\r\n\r\n")
}

func TestRequests(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		c := b.conn("10.0.0.1:40000", "203.0.113.5:80").open()
		for range 3 {
			b.want("request", c.say(get("www.allowed.example")), "accept")
			b.want("answer", c.reply([]byte("HTTP/1.1 200 OK\r\n\r\n")), "accept")
		}
		b.want("later request", c.say(get("www.blocked.example")), "reject!")
	})
}

// A connection whose requests are judged has no limit of time, but its first request has.
func TestTimeOfRequests(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		c := b.conn("10.0.0.1:40000", "203.0.113.5:80").open()
		b.want("request", c.say(get("www.allowed.example")), "accept")
		b.now += time.Minute
		b.Tick(b.now)
		b.want("answer", c.reply([]byte("x")), "accept")
		b.want("later request", c.say(get("www.blocked.example")), "reject!")
	})
	b := newBench(t, allowList)
	c := b.conn("10.0.0.1:40000", "203.0.113.5:80").open()
	b.want("half", c.say(get("www.allowed.example")[:20]), "pass")
	b.want("more", c.say(get("www.allowed.example")[20:25]), "pass")
	b.now += time.Minute
	b.Tick(b.now)
	b.told("reject s/default http timeout")
}

// What is kept for requests goes with the client's end, which the server confirms.
func TestEndOfRequests(t *testing.T) {
	for name, client := range map[string]func(b *bench, c *conn){
		"FIN of its own": func(b *bench, c *conn) {
			b.want("request", c.say(get("www.allowed.example")), "accept")
			b.want("answer", c.reply([]byte("x")), "accept")
			b.want("FIN", c.fromClient(fin|ack, c.cseq, nil), "accept")
		},
		"FIN with the request": func(b *bench, c *conn) {
			request := get("www.allowed.example")
			b.want("request", c.fromClient(fin|ack, c.cseq, request), "accept")
			c.cseq += uint32(len(request))
		},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, b *bench) {
				before := b.account.Used()
				c := b.conn("10.0.0.1:40000", "203.0.113.5:80").open()
				client(b, c)
				b.want("answer", c.reply([]byte("x")), "accept")
				held := b.account.Used()
				c.cseq++
				b.want("confirmation", c.reply(nil), "accept!")
				if now := b.account.Used(); held <= pieceSize || now-before > 256 {
					t.Errorf("%d bytes are held for an open connection, %d for a closed one", held, now-before)
				}
			})
		})
	}
}

func TestRequestsInPieces(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		c := b.conn("10.0.0.1:40000", "203.0.113.5:80").open()
		c.say(get("www.allowed.example"))
		c.reply([]byte("x"))
		request := get("www.blocked.example")
		for i := range request[:len(request)-1] {
			if o := c.say(request[i : i+1]); o.Action > Accept && o.Action != Pass || o.Settle {
				t.Fatalf("byte %d: %+v", i, o)
			}
			c.reply([]byte("x"))
		}
		b.want("last byte", c.say(request[len(request)-1:]), "reject!")
	})
}

func TestPipelined(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		c := b.conn("10.0.0.1:40000", "203.0.113.5:80").open()
		b.want("two", c.say(slices.Concat(get("www.allowed.example"), get("www.blocked.example"))), "reject!")
	})
}

func TestBody(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		c := b.conn("10.0.0.1:40000", "203.0.113.5:80").open()
		const size = 1 << 20
		head := []byte("POST / HTTP/1.1\r\nHost: www.allowed.example\r\nContent-Length: " + fmt.Sprint(size) + "\r\n\r\n")
		b.want("head", c.say(head), "accept")
		b.want("ack", c.reply([]byte("x")), "accept")
		body := bytes.Repeat(get("www.blocked.example"), size/50)[:size]
		for i := 0; i < size; i += 50000 {
			piece := body[i:min(i+50000, size)]
			if i == 100000 { // a hole, which is filled later
				hole := c.cseq
				c.cseq += 50000
				defer func() { _ = hole }()
				b.want("behind the hole", c.say(body[150000:200000]), "accept")
				b.want("the hole", c.fromClient(ack, hole, piece), "accept")
				i += 50000
				continue
			}
			b.want("piece", c.say(piece), "accept")
		}
		b.want("ack", c.reply([]byte("x")), "accept")
		b.want("next request out of order", c.fromClient(ack, c.cseq+10, []byte("x")), "drop")
		request := get("www.blocked.example")
		b.want("half a request", c.say(request[:30]), "accept")
		b.want("other half", c.fromClient(ack, c.cseq-30, request), "reject!")
	})
}

func TestConflictInRequests(t *testing.T) {
	b := newBench(t, allowList)
	c := b.conn("10.0.0.1:40000", "203.0.113.5:80").open()
	b.want("request", c.say(get("www.allowed.example")), "accept")
	seq := c.cseq - uint32(len(get("www.allowed.example")))
	b.want("other request", c.fromClient(ack, seq, get("www.blocked.example")), "drop")
	b.want("ack", c.reply([]byte("x")), "accept")
	b.want("it is over", c.fromClient(ack, seq, get("www.blocked.example")), "accept")
	b.want("request", c.say(get("www.allowed.example")), "accept")
	b.want("other request", c.fromClient(ack, c.cseq-5, []byte("abcde")), "drop")
}

func TestStrictRequests(t *testing.T) {
	for text, why := range map[string]string{
		"GET http://a.example/ HTTP/1.1\r\nHost: www.allowed.example\r\n\r\n":           "malformed",
		"GET / HTTP/1.1\r\nHost: www.allowed.example\r\nHost: b.example\r\n\r\n":        "malformed",
		"GET / HTTP/1.1\r\nHost: www.allowed.example\r\nA: b\r\n c\r\n\r\n":             "malformed",
		"GET / HTTP/1.1\nHost: www.allowed.example\n\n":                                 "malformed",
		"GET / HTTP/1.1\r\nHost : www.allowed.example\r\n\r\n":                          "malformed",
		"GET / HTTP/1.1\r\nHost: www.allowed.example\r\nA: \x00\r\n\r\n":                "malformed",
		"GET / HTTP/1.1\r\nA: " + string(bytes.Repeat([]byte("a"), 9<<10)) + "\r\n\r\n": "limit",
	} {
		b := newBench(t, allowList)
		c := b.conn("10.0.0.1:40000", "203.0.113.5:80").open()
		b.want(text[:20], c.say([]byte(text)), "reject!")
		b.told("reject s/default http " + why)
	}
}

func TestTunnel(t *testing.T) {
	b := newBench(t, allowList)
	c := b.conn("10.0.0.1:40000", "203.0.113.5:80").open()
	b.want("upgrade", c.say([]byte("GET / HTTP/1.1\r\nHost: www.allowed.example\r\nUpgrade: x\r\n\r\n")), "accept")
	b.want("answer", c.reply([]byte("HTTP/1.1 101 x\r\n\r\n")), "accept")
	b.want("what is no request", c.say([]byte{0x81, 0x85, 1, 2, 3, 4}), "accept")
	b.want("answer", c.reply([]byte("x")), "accept")
	b.want("more", c.say([]byte("x")), "accept!")
}

func TestSettlesWithoutRulesOnRequests(t *testing.T) {
	b := newBench(t, "\n  default: drop\n  rules: [{name: r, when: app.protocol == 'http' && http.host != 'x' || app.protocol == 'http', action: accept}]")
	c := b.conn("10.0.0.1:40000", "203.0.113.5:80").open()
	b.want("first bytes", c.say([]byte("GET /")), "accept")
	b.want("answer", c.reply([]byte("x")), "accept!")
}

func TestH2(t *testing.T) {
	b := newBench(t, "\n  default: accept\n  rules: [{name: r, when: app.protocol == 'h2', action: reject}]")
	b.want("preface", b.conn("10.0.0.1:40000", "203.0.113.5:80").open().say([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")), "reject!")
}

func TestQueries(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		client, server := netipPort("10.0.0.1", 4000), netipPort("10.96.0.10", 53)
		good, bad := query(1, "www.allowed.example"), query(2, "wWw.BLOCKED.example")
		for range 2 {
			b.want("good", b.send(udp(client, server, good)), "accept")
			b.want("answer", b.send(udp(server, client, response(good, "192.0.2.1"))), "accept")
			b.want("bad", b.send(udp(client, server, bad)), "reject")
			b.want("both", b.send(udp(client, server, query(3, "www.allowed.example", "www.blocked.example"))), "reject")
		}
		other := netipPort("203.0.113.5", 5300)
		b.want("another port", b.send(udp(client, other, bad)), "reject")
	})
}

// What comes from a resolver's address does not keep the pod from asking it.
func TestForgedQueryFirst(t *testing.T) {
	b := newBench(t, "\n  default: reject\n  rules: [{name: out, when: flow.direction == 'out' && server.port == 53 && app.protocol == 'dns', action: accept}]")
	client, server := netipPort("10.0.0.1", 4000), netipPort("10.96.0.10", 53)
	for _, forged := range [][]byte{query(1, "a.example"), []byte("x")} {
		b.want("forged", b.send(udp(server, client, forged)), "reject")
		b.want("query", b.send(udp(client, server, query(1, "a.example"))), "accept")
		b.want("answer", b.send(udp(server, client, response(query(1, "a.example"), "192.0.2.1"))), "accept")
		client = netipPort("10.0.0.1", 4001)
	}
}

func TestNoQueryFirst(t *testing.T) {
	b := newBench(t, denyList)
	client, server := netipPort("10.0.0.1", 4000), netipPort("10.96.0.10", 53)
	b.want("something", b.send(udp(client, server, []byte("x"))), "accept")
	b.want("query", b.send(udp(client, server, query(1, "www.blocked.example"))), "reject")
}

func TestQueriesOverTCP(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		c := b.conn("10.0.0.1:40000", "10.96.0.10:53").open()
		good, bad := overTCP(query(1, "www.allowed.example")), overTCP(query(2, "www.blocked.example"))
		b.want("good", c.say(good), "accept")
		b.want("answer", c.reply(overTCP(response(good[2:], "192.0.2.1"))), "accept")
		for i := range bad[:len(bad)-1] {
			b.want("byte", c.say(bad[i:i+1]), "accept")
		}
		b.want("last byte", c.say(bad[len(bad)-1:]), "reject!")
		c = b.conn("10.0.0.1:40001", "10.96.0.10:53").open()
		b.want("both", c.say(slices.Concat(good, bad)), "reject!")
		c = b.conn("10.0.0.1:40002", "10.96.0.10:53").open()
		b.want("length", c.say(bad[:1]), "pass")
		b.want("rest", c.say(bad[1:]), "reject!")
	})
}

func TestAnswersOverTCP(t *testing.T) {
	b := newBench(t, "\n  rules: [{name: r, when: dns.response && dns.rcode == 3, action: reject}]")
	c := b.conn("10.0.0.1:40000", "10.96.0.10:53").open()
	q := query(1, "a.example")
	r := response(q, "192.0.2.1")
	b.want("query", c.say(overTCP(q)), "accept")
	b.want("answer", c.reply(overTCP(r)), "accept")
	b.want("query", c.say(overTCP(q)), "accept")
	r[3] |= 3
	b.want("half an answer", c.reply(overTCP(r)[:10]), "accept")
	b.want("other half", c.reply(overTCP(r)[10:]), "reject!")
}

// An answer that is larger than what is kept of it is not malformed.
func TestLargeAnswersOverTCP(t *testing.T) {
	b := newBench(t, "\n  rules: [{name: r, when: dns.response && app.error == 'malformed', action: reject}]")
	c := b.conn("10.0.0.1:40000", "10.96.0.10:53").open()
	q := query(1, "a.example")
	b.want("query", c.say(overTCP(q)), "accept")
	for range 2 {
		r := overTCP(response(q, slices.Repeat([]string{"2001:db8::1"}, 250)...))
		for piece := range slices.Chunk(r, 1400) {
			b.want("piece", c.reply(piece), "accept")
		}
	}
	b.want("malformed", c.reply(overTCP(append(response(q, "192.0.2.1"), 0))), "reject!")
}

func TestBrokenQueries(t *testing.T) {
	loop := query(1, "a.example")
	loop = append(loop[:12], 0xc0, 12, 0, 1, 0, 1)
	long := binary.BigEndian.AppendUint16(query(1, "www.blocked.example"), 0)
	for name, c := range map[string]struct {
		message []byte
		told    string
	}{
		"loop":            {loop, "reject s/default dns malformed"},
		"bytes behind":    {long, "reject s/default dns www.blocked.example malformed"},
		"cut in its name": {query(1, "www.allowed.example")[:20], "reject s/default dns malformed"},
	} {
		b := newBench(t, allowList)
		b.want(name, b.send(udp(netipPort("10.0.0.1", 4000), netipPort("10.96.0.10", 53), c.message)), "reject")
		b.told(c.told)
	}
}

func TestAuditOfMessages(t *testing.T) {
	b := newBench(t, "\n  mode: Audit"+allowList)
	c := b.conn("10.0.0.1:40000", "203.0.113.5:80").open()
	for _, name := range []string{"www.blocked.example", "www.allowed.example", "x.blocked.example"} {
		b.want(name, c.say(get(name)), "accept")
		c.reply([]byte("x"))
	}
	b.told("effect reject audit s/default http www.blocked.example; accept http www.blocked.example; " +
		"effect accept audit s/http http www.allowed.example; accept http www.allowed.example; " +
		"effect reject audit s/default http x.blocked.example; accept http x.blocked.example")
	client, server := netipPort("10.0.0.1", 4000), netipPort("10.96.0.10", 53)
	for range 2 {
		b.want("query", b.send(udp(client, server, query(1, "www.blocked.example"))), "accept")
		b.told("effect reject audit s/default dns www.blocked.example; accept dns www.blocked.example")
	}
}

func TestEffectsOfMessages(t *testing.T) {
	b := newBench(t, `
  rules:
  - {name: all, when: flow.direction == "out", action: log}
  - {name: each, when: http.host == "a.example", action: log}`)
	c := b.conn("10.0.0.1:40000", "203.0.113.5:80").open()
	c.say(get("a.example"))
	c.reply([]byte("x"))
	c.say(get("a.example"))
	c.reply([]byte("x"))
	c.say(get("b.example"))
	b.told("effect log s/all; effect log s/each http a.example; accept http a.example; " +
		"effect log s/each http a.example; accept http a.example; accept http b.example")
}
