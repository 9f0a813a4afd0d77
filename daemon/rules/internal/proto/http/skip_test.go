// SPDX-License-Identifier: Apache-2.0

package http

import (
	"math"
	"testing"
)

func TestSkip(t *testing.T) {
	var p Parser
	var r Request
	next := func(text string, want Status) {
		t.Helper()
		if _, s := p.Next([]byte(text), &r); s != want {
			t.Fatalf("%q: %d, want %d", text, s, want)
		}
	}
	skip := func(left uint64, n uint64) {
		t.Helper()
		if p.Body() != left {
			t.Fatalf("%d bytes are left, want %d", p.Body(), left)
		}
		p.Skip(n)
	}
	skip(0, 5)
	next("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n", Complete)
	skip(10, 4)
	next("56", More)
	skip(4, 4)
	skip(0, 0)
	next("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", Complete)
	next("5\r\n1", More)
	skip(4, 4)
	next("\r\n0\r\n\r\nCONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", Complete)
	next("\x00", Tunnel)
	skip(math.MaxUint64, 7)
	skip(math.MaxUint64, 0)
}
