// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bufio"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// Segments do not matter, nothing that is found has a control character, and what
// is complete is a request for net/http too.
func FuzzParser(f *testing.F) {
	f.Add(allowed+blocked, uint8(7))
	f.Add(post("Content-Length: 3", "abc")+blocked, uint8(1))
	f.Add(post("Transfer-Encoding: chunked", "3;x\r\nabc\r\n0\r\nX: y\r\n\r\n")+blocked, uint8(2))
	f.Add("GET http://a:80/p?q HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n\x82", uint8(3))
	f.Add("CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]\r\n\r\n"+blocked, uint8(4))
	f.Add("GET / HTTP/1.1\nHost : a\r\n b\r\n\r\n", uint8(5))
	f.Fuzz(func(t *testing.T, text string, size uint8) {
		checkRecognise(t, text)
		var whole, parts Parser
		want := feed(&whole, text, max(1, len(text)))
		if got := feed(&parts, text, int(size)+1); !slices.Equal(got, want) {
			t.Errorf("segments of %d: %q, want %q", int(size)+1, got, want)
		}
		if cap(parts.Buffer) > 2*MaxHead {
			t.Errorf("%d bytes are kept", cap(parts.Buffer))
		}
		checkFirst(t, text)
	})
}

func checkFirst(t *testing.T, text string) {
	t.Helper()
	var p Parser
	var r Request
	rest, s := p.Next([]byte(text), &r)
	if s != Complete {
		return
	}
	for _, field := range [][]byte{r.Method, r.Host, r.Path, r.Query, r.Version} {
		if strings.ContainsFunc(string(field), func(c rune) bool { return c <= ' ' || c > '~' }) {
			t.Errorf("%q", field)
		}
	}
	head := strings.TrimLeft(text[:len(text)-len(rest)], "\r\n")
	theirs, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head)))
	if err != nil {
		if stricter(err) {
			return
		}
		t.Fatalf("%q: %v", head, err)
	}
	if theirs.Method != string(r.Method) || p.left != uint64(max(0, theirs.ContentLength)) {
		t.Errorf("%q: %s with %d bytes", head, r.Method, p.left)
	}
	if !strings.HasPrefix(strings.ToLower(theirs.Host), string(r.Host)) && theirs.Host[0] != '[' {
		t.Errorf("%q: host %s, want %s", head, r.Host, theirs.Host)
	}
}

// stricter reports whether net/http refuses what RFC 9112 leaves to others: how a
// URI escapes, and codings that it does not know.
func stricter(err error) bool {
	for _, what := range []string{"parse ", "unsupported transfer encoding", "bad trailer key"} {
		if strings.Contains(err.Error(), what) {
			return true
		}
	}
	return false
}
