// SPDX-License-Identifier: Apache-2.0

package http

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// feed gives a parser segments of a size, and returns what it finds: a line for
// each request, and how it ends if not in More.
func feed(p *Parser, text string, size int) (found []string) {
	var r Request
	for segment := range slices.Chunk([]byte(text), size) {
		for len(segment) > 0 {
			rest, s := p.Next(slices.Clip(segment), &r)
			switch segment = rest; s {
			case More:
			case Complete:
				found = append(found, describe(&r))
			default:
				return append(found, ending(s))
			}
		}
	}
	return found
}

func ending(s Status) string {
	return map[Status]string{Tunnel: "tunnel", Malformed: "malformed", Limit: "limit"}[s]
}

func describe(r *Request) string {
	s := fmt.Sprintf("%s %s %s", r.Method, r.Host, r.Path)
	if r.Query != nil {
		s += "?" + string(r.Query)
	}
	return s
}

// sizes are segments of one byte, of some, and all in one.
func sizes(text string) []int { return []int{1, 2, 3, 7, 30, max(1, len(text)-1), max(1, len(text))} }

type streamCase struct{ name, text, want string }

func try(t *testing.T, cases []streamCase) {
	t.Helper()
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			for _, size := range sizes(tc.text) {
				var p Parser
				if got := strings.Join(feed(&p, tc.text, size), ", "); got != tc.want {
					t.Errorf("segments of %d: %s, want %s", size, got, tc.want)
				}
			}
		})
	}
}

const (
	allowed = "GET / HTTP/1.1\r\nHost: www.allowed.example\r\nUser-Agent: x\r\n\r\n"
	blocked = "GET /b HTTP/1.1\r\nHost: www.blocked.example\r\n\r\n"

	gotAllowed = "GET www.allowed.example /"
	gotBlocked = "GET www.blocked.example /b"
	gotBoth    = gotAllowed + ", " + gotBlocked
)

func TestRequests(t *testing.T) {
	try(t, []streamCase{
		{"one", allowed, gotAllowed},
		{"pipelined", allowed + blocked, gotBoth},
		{"empty lines before and between", "\r\n" + allowed + "\r\n\r\n" + blocked, gotBoth},
		{"HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n", "GET  /"},
		{"HTTP/1.0 absolute", "GET http://A.example HTTP/1.0\r\n\r\n", "GET a.example /"},
		{"no value", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "GET  /"},
		{"case, port, final dot", "GET / HTTP/1.1\r\nhOST:\t wWw.Blocked.EXAMPLE.:8080 \r\n\r\n", "GET www.blocked.example /"},
		{"query", "GET /a%2Fb?c=/../?d HTTP/1.1\r\nHost: a\r\n\r\n", "GET a /a%2Fb?c=/../?d"},
		{"IPv4", "GET / HTTP/1.1\r\nHost: 198.51.100.1:80\r\n\r\n", "GET 198.51.100.1 /"},
		{"IPv6", "GET / HTTP/1.1\r\nHost: [2001:DB8:0::1]:80\r\n\r\n", "GET 2001:db8::1 /"},
		{"all of OPTIONS", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS a *"},
		{"own method", "PURGE /x HTTP/1.1\r\nHost: a\r\n\r\n", "PURGE a /x"},
		{"bytes of Latin-1", "GET / HTTP/1.1\r\nHost: a\r\nX: \xe9\r\n\r\n", "GET a /"},
	})
}

func TestAbsolute(t *testing.T) {
	request := func(target, host string) string {
		return "GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n"
	}
	try(t, []streamCase{
		{"equal", request("http://www.a.example/p?q", "www.a.example"), "GET www.a.example /p?q"},
		{"equal but for case, dot, port", request("HTTP://www.A.example.:80", "WWW.a.example"), "GET www.a.example /"},
		{"no path", request("http://a?q", "a"), "GET a /?q"},
		{"other scheme", request("ftp://a/x", "a"), "GET a /x"},
		{"other host", request("http://allowed.example/", "www.blocked.example"), "malformed"},
		{"other port", request("http://a:81/", "a"), "malformed"},
		{"empty Host", request("http://a/", ""), "malformed"},
		{"user", request("http://a@b/", "b"), "malformed"},
		{"no host", request("http:///x", ""), "malformed"},
		{"no authority", request("urn:a", "a"), "malformed"},
		{"no slash", request("a/b", "a"), "malformed"},
		{"asterisk", request("*", "a"), "malformed"},
		{"fragment", request("/#x", "a"), "malformed"},
	})
}

func TestMalformed(t *testing.T) {
	for name, text := range map[string]string{
		"two Hosts":             "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
		"no Host":               "GET / HTTP/1.1\r\nX: y\r\n\r\n",
		"continued line":        "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n",
		"space at the start":    "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
		"bare LF":               "GET / HTTP/1.1\nHost: a\n\n",
		"bare LF in the head":   "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
		"bare LF first":         "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"bare CR":               "GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n",
		"bare CR, no LF":        "GET / HTTP/1.1\rHost: a\r\r",
		"LF, then CR":           "GET / HTTP/1.1\n\rHost: a\r\n\r\n",
		"two Hosts apart":       "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nhost: b\r\n\r\n",
		"field behind a CR":     "GET / HTTP/1.1\r\nHost: a\r\n\rHost: b\r\n\r\n",
		"two CR":                "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
		"space before colon":    "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
		"tab before colon":      "GET / HTTP/1.1\r\nHost\t: a\r\n\r\n",
		"no colon":              "GET / HTTP/1.1\r\nHost\r\n\r\n",
		"no name":               "GET / HTTP/1.1\r\n: a\r\n\r\n",
		"NUL in a value":        "GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
		"NUL in Host":           "GET / HTTP/1.1\r\nHost: a\x00b\r\n\r\n",
		"NUL in a name":         "GET / HTTP/1.1\r\nHo\x00st: a\r\n\r\n",
		"NUL in a path":         "GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
		"escape in a value":     "GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: \x1b[2J\r\n\r\n",
		"two agents":            "GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: a\r\nUser-Agent: b\r\n\r\n",
		"path of UTF-8":         "GET /é HTTP/1.1\r\nHost: a\r\n\r\n",
		"HTTP/0.9":              "GET /\r\n",
		"HTTP/2.0":              "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
		"lower-case version":    "GET / http/1.1\r\nHost: a\r\n\r\n",
		"version of two digits": "GET / HTTP/1.10\r\nHost: a\r\n\r\n",
		"two spaces":            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
		"space in a path":       "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
		"space at the end":      "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
		"tab for a space":       "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
		"no method":             " / HTTP/1.1\r\nHost: a\r\n\r\n",
		"host with a path":      "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
		"host of UTF-8":         "GET / HTTP/1.1\r\nHost: é\r\n\r\n",
		"escaped host":          "GET / HTTP/1.1\r\nHost: www%2eblocked.example\r\n\r\n",
		"two hosts in a field":  "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
		"empty label":           "GET / HTTP/1.1\r\nHost: a..b\r\n\r\n",
		"only a dot":            "GET / HTTP/1.1\r\nHost: .\r\n\r\n",
		"long label":            "GET / HTTP/1.1\r\nHost: " + strings.Repeat("a", 64) + "\r\n\r\n",
		"long host":             "GET / HTTP/1.1\r\nHost: " + strings.Repeat("a.", 127) + "a\r\n\r\n",
		"large port":            "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n",
		"port without a host":   "GET / HTTP/1.1\r\nHost: :80\r\n\r\n",
		"zone":                  "GET / HTTP/1.1\r\nHost: [fe80::1%eth0]\r\n\r\n",
		"IPv4 in brackets":      "GET / HTTP/1.1\r\nHost: [198.51.100.1]\r\n\r\n",
		"open bracket":          "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
	} {
		try(t, []streamCase{{name, text, "malformed"}})
	}
}

func TestLimit(t *testing.T) {
	head := "GET / HTTP/1.1\r\nHost: a\r\nX: "
	exact := head + strings.Repeat("x", MaxHead-len(head)-4) + "\r\n\r\n"
	chunked := "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
	try(t, []streamCase{
		{"the longest head", exact + blocked, "GET a /, " + gotBlocked},
		{"a byte more", strings.Replace(exact, "x", "xx", 1), "limit"},
		{"9 KiB", head + strings.Repeat("x", 9<<10) + "\r\n\r\n", "limit"},
		{"no end of a line", strings.Repeat("G", 9<<10), "limit"},
		{"long extension", chunked + "1;" + strings.Repeat("x", 9<<10) + "\r\n", "POST a /, limit"},
		{"long trailer", chunked + "0\r\n" + strings.Repeat("X: y\r\n", 2000), "POST a /, limit"},
	})
	var p Parser
	feed(&p, strings.Repeat("G", 9<<10), 10)
	if cap(p.Buffer) > 2*MaxHead || !p.Idle() {
		t.Errorf("%d bytes are kept, idle: %v", cap(p.Buffer), p.Idle())
	}
}

func TestAllocates(t *testing.T) {
	text := []byte(strings.Repeat(allowed+post("Transfer-Encoding: chunked", "5;x=y\r\nhello\r\n0\r\nX: y\r\n\r\n")+blocked, 3))
	p := Parser{Buffer: make([]byte, 0, MaxHead)}
	var r Request
	for _, size := range []int{20, 60, len(text)} {
		n := testing.AllocsPerRun(50, func() {
			for segment := range slices.Chunk(text, size) {
				for len(segment) > 0 {
					var s Status
					if segment, s = p.Next(segment, &r); s > Complete {
						t.Fatal(ending(s))
					}
				}
			}
		})
		if n != 0 {
			t.Errorf("segments of %d: %v allocations", size, n)
		}
	}
}

func BenchmarkNext(b *testing.B) {
	browser := []byte("GET /search?q=x&lang=en HTTP/1.1\r\nHost: www.example.org\r\n" +
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n" +
		"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n" +
		"Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n\r\n")
	for name, tc := range map[string]struct {
		text []byte
		size int
	}{
		"small": {[]byte(allowed), len(allowed)}, "browser": {browser, len(browser)}, "split": {browser, 100},
	} {
		b.Run(name, func(b *testing.B) {
			p := Parser{Buffer: make([]byte, 0, MaxHead)}
			var r Request
			b.ReportAllocs()
			for b.Loop() {
				s := More
				for segment := range slices.Chunk(tc.text, tc.size) {
					_, s = p.Next(segment, &r)
				}
				if s != Complete {
					b.Fatal(ending(s))
				}
			}
		})
	}
}
