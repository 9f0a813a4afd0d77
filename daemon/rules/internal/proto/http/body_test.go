// SPDX-License-Identifier: Apache-2.0

package http

import (
	"strings"
	"testing"
)

// post is a request with a field that says how long its body is.
func post(field, body string) string {
	return "POST / HTTP/1.1\r\nHost: a\r\n" + field + "\r\n\r\n" + body
}

// A body that looks like a request is none, and what follows it is.
func TestBodies(t *testing.T) {
	length := "Content-Length: 46"
	if len(blocked) != 46 {
		t.Fatal(len(blocked))
	}
	const chunked = "Transfer-Encoding: chunked"
	const got = "POST a /, "
	try(t, []streamCase{
		{"length", post(length, blocked) + allowed, got + gotAllowed},
		{"length of zero", post("Content-Length: 0", "") + blocked, got + gotBlocked},
		{"zeros before a length", post("Content-Length: 00046", blocked) + allowed, got + gotAllowed},
		{"GET with a body", "GET / HTTP/1.1\r\nHost: a\r\n" + length + "\r\n\r\n" + blocked + allowed, "GET a /, " + gotAllowed},
		{"no length", post("X: y", blocked), got + gotBlocked},
		{"chunked", post(chunked, "2e\r\n"+blocked+"\r\n0\r\n\r\n") + allowed, got + gotAllowed},
		{"chunks", post(chunked, "1\r\nG\r\n02D\r\n"+blocked[1:]+"\r\n000\r\n\r\n") + allowed, got + gotAllowed},
		{"extensions, trailer", post(chunked, "2E;a=\"b\" ;c\r\n"+blocked+"\r\n0;x\r\nW: c\r\nX: y\r\n\r\n") + allowed, got + gotAllowed},
		{"space before an extension", post(chunked, "2e \t;x\r\n"+blocked+"\r\n0\r\n\r\n") + allowed, got + gotAllowed},
		{"codings in a list", post("Transfer-Encoding: gzip, CHUNKED", "0\r\n\r\n") + blocked, got + gotBlocked},
		{"codings in two fields", post("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", "0\r\n\r\n") + blocked, got + gotBlocked},

		{"100-continue", post("Expect: 100-continue\r\n"+length, blocked) + allowed, got + gotAllowed},

		{"other lengths", post("Content-Length: 46\r\nContent-Length: 0", blocked), "malformed"},
		{"lengths of a list", post("Content-Length: 46, 0", blocked), "malformed"},
		{"length in hexadecimal", post("Content-Length: 0x2e", blocked), "malformed"},
		{"length with a space", post("Content-Length: 4 6", blocked), "malformed"},
		{"chunked and length", post(chunked+"\r\n"+length, blocked), "malformed"},
		{"chunked of nothing and length", post("Transfer-Encoding:\r\n"+length, blocked), "malformed"},
		{"identity", post("Transfer-Encoding: identity", blocked), "malformed"},
		{"chunked with a parameter", post(chunked+";q=1", blocked), "malformed"},
		{"chunked in quotes", post("Transfer-Encoding: \"chunked\"", blocked), "malformed"},
		{"chunked and nothing", post(chunked+",", blocked), "malformed"},
		{"nothing and chunked", post("Transfer-Encoding: ,chunked", blocked), "malformed"},
		{"chunked, then a field of nothing", post(chunked+"\r\nTransfer-Encoding:", blocked), "malformed"},
		{"chunked in a continued line", post("Transfer-Encoding:\r\n chunked", blocked), "malformed"},
		{"chunked behind a space", post("Transfer-Encoding : chunked", blocked), "malformed"},
		{"chunked by a bare CR", post("X: y\r"+chunked, blocked), "malformed"},
		{"Host in a trailer", post(chunked, "0\r\nHost: c\r\n\r\n"), got + "malformed"},
		{"length in a trailer", post(chunked, "0\r\n"+length+"\r\n\r\n"), got + "malformed"},
		{"coding in a trailer", post(chunked, "0\r\n"+chunked+"\r\n\r\n"), got + "malformed"},
		{"bare CR after a size", post(chunked, "1\rx"), got + "malformed"},
		{"bare LF after a chunk", post(chunked, "1\r\nx\n0\r\n\r\n"), got + "malformed"},
		{"bare CR after a chunk", post(chunked, "1\r\nx\r0"), got + "malformed"},
		{"bare LF in a trailer", post(chunked, "0\r\nX: y\n\r\n"), got + "malformed"},
		{"two lengths", post("Content-Length: 0\r\nContent-Length: 0", ""), "malformed"},
		{"list of lengths", post("Content-Length: 0, 0", ""), "malformed"},
		{"sign", post("Content-Length: +1", ""), "malformed"},
		{"no number", post("Content-Length:", ""), "malformed"},
		{"large length", post("Content-Length: 9999999999999999999", ""), "malformed"},
		{"length and chunked", post(length+"\r\n"+chunked, ""), "malformed"},
		{"chunked twice", post("Transfer-Encoding: chunked, chunked", ""), "malformed"},
		{"chunked not last", post("Transfer-Encoding: chunked, gzip", ""), "malformed"},
		{"chunked not there", post("Transfer-Encoding: gzip", ""), "malformed"},
		{"coding of nothing", post("Transfer-Encoding:", ""), "malformed"},
		{"coding in disguise", post("Transfer-Encoding: \vchunked", ""), "malformed"},
		{"chunked in HTTP/1.0", "POST / HTTP/1.0\r\n" + chunked + "\r\n\r\n", "malformed"},
		{"no size", post(chunked, "\r\n"), got + "malformed"},
		{"size in C", post(chunked, "0x1\r\n"), got + "malformed"},
		{"negative size", post(chunked, "-1\r\n"), got + "malformed"},
		{"space after a size", post(chunked, "1 \r\n"), got + "malformed"},
		{"large size", post(chunked, "10000000000000001\r\n"), got + "malformed"},
		{"bare LF after a size", post(chunked, "1\nx\r\n0\r\n\r\n"), got + "malformed"},
		{"bare LF in an extension", post(chunked, "1;\nx\r\n0\r\n\r\n"), got + "malformed"},
		{"chunk longer than its size", post(chunked, "1\r\nxx\r\n0\r\n\r\n"), got + "malformed"},
		{"continued trailer", post(chunked, "0\r\nX: y\r\n z\r\n\r\n"), got + "malformed"},
	})
}

// After an agreement to speak something else, nothing is read as a request; without
// the server's word, only what cannot be one.
func TestTunnels(t *testing.T) {
	const connect = "CONNECT www.a.example:443 HTTP/1.1\r\nHost: www.a.example:443\r\n\r\n"
	const upgrade = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	const gotConnect, gotUpgrade = "CONNECT www.a.example ", "GET a /ws"
	hello := "\x16\x03\x01\x02\x00" + blocked
	try(t, []streamCase{
		{"TLS after CONNECT", connect + hello, gotConnect + ", tunnel"},
		{"frames after an upgrade", upgrade + "\x82\x05hello" + blocked, gotUpgrade + ", tunnel"},
		{"h2c", upgrade + preface + blocked, gotUpgrade + ", tunnel"},
		{"request after a refused CONNECT", connect + blocked, gotConnect + ", " + gotBlocked},
		{"request after a refused upgrade", upgrade + blocked, gotUpgrade + ", " + gotBlocked},
		{"request in disguise", upgrade + "\n" + blocked, gotUpgrade + ", malformed"},
		{"upgrade with a body", strings.Replace(upgrade, "Host", "Content-Length: 1\r\nHost", 1) + "\x80\x82x", gotUpgrade + ", tunnel"},
		{"upgrade with chunks", "POST /ws HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nTransfer-Encoding: chunked\r\n\r\n" +
			"1\r\nx\r\n0\r\n\r\n" + blocked, "POST a /ws, " + gotBlocked},
		{"many empty lines", upgrade + strings.Repeat("\r\n", 20) + blocked, gotUpgrade + ", " + gotBlocked},
		{"space before a request", upgrade + " " + blocked, gotUpgrade + ", malformed"},
		{"space of Latin-1", upgrade + "\xa0" + strings.ReplaceAll(blocked, " ", "\x85"), gotUpgrade + ", malformed"},
		{"no slash", upgrade + "GET b HTTP/1.1\r\nHost: www.blocked.example\r\n\r\n", gotUpgrade + ", malformed"},
		{"long method", upgrade + strings.Repeat("M", 30) + blocked[3:], gotUpgrade + ", " +
			strings.Repeat("M", 30) + gotBlocked[3:]},
		{"version in lower case", upgrade + "GET /b http/1.1\r\nHost: www.blocked.example\r\n\r\n", gotUpgrade + ", malformed"},
		{"bare CR in a request", upgrade + "GET /b HTTP/1.1\rHost: www.blocked.example\r\r", gotUpgrade + ", malformed"},
		{"SSH after CONNECT", connect + "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n", gotConnect + ", tunnel"},
		{"SMTP after CONNECT", connect + "EHLO ip-198-51-100-7.compute.example\r\n", gotConnect + ", tunnel"},
		{"text after an upgrade", upgrade + "ls -l /tmp\n", gotUpgrade + ", tunnel"},
		{"HTTP/2 or not", upgrade + "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", gotUpgrade + ", malformed"},
		{"endless line", upgrade + "X " + strings.Repeat("x", 9<<10), gotUpgrade + ", limit"},
		{"CONNECT in HTTP/1.0", "CONNECT a:1 HTTP/1.0\r\n\r\n\x00", "CONNECT a , tunnel"},
		{"no port in Host", strings.Replace(connect, ":443\r\n\r\n", "\r\n\r\n", 1), gotConnect},
		{"other Host", strings.Replace(connect, "Host: www", "Host: w", 1), "malformed"},
		{"other port", strings.Replace(connect, ":443\r\n\r\n", ":80\r\n\r\n", 1), "malformed"},
		{"no port", strings.Replace(connect, ":443 ", " ", 1), "malformed"},
		{"CONNECT with a body", strings.Replace(connect, "Host", "Content-Length: 1\r\nHost", 1), "malformed"},
		{"CONNECT to a path", strings.Replace(connect, "www.a.example:443 ", "/ ", 1), "malformed"},
	})
	for _, start := range []string{connect, upgrade} {
		var p Parser
		feed(&p, start, len(start))
		p.Switched()
		if got := feed(&p, blocked+blocked, 10); len(got) != 1 || got[0] != "tunnel" {
			t.Errorf("after Switched: %q", got)
		}
	}
}
