// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"testing"

	"github.com/nsqueue/nsqueue/daemon/rules/internal/proto/dns"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/proto/http"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/proto/quic"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/proto/ssh"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/proto/tls"
)

// All parsers answer alike.
func TestAnswers(t *testing.T) {
	for name, got := range map[string][3]answer{
		"tls":  {answer(tls.Undecided), answer(tls.Yes), answer(tls.No)},
		"quic": {answer(quic.Undecided), answer(quic.Yes), answer(quic.No)},
		"http": {answer(http.Undecided), answer(http.Yes), answer(http.No)},
		"dns":  {answer(dns.Undecided), answer(dns.Yes), answer(dns.No)},
		"ssh":  {answer(ssh.Undecided), answer(ssh.Yes), answer(ssh.No)},
	} {
		if want := [3]answer{answerUndecided, answerYes, answerNo}; got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

// A client is recognised with as many bytes as it takes, and not before.
func TestRecognise(t *testing.T) {
	for _, c := range []struct {
		bytes string
		want  app
		after int
	}{
		{"\x16\x03\x01\x02\x00\x01\x00", appTLS, 6},
		{"GET / HTTP/1.1\r\n", appHTTP, 5},
		{"POST /x HTTP/1.1\r\n", appHTTP, 6},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", appH2, 24},
		{"PRI * HTTP/1.1\r\n", appHTTP, 12},
		{"SSH-2.0-x\r\n", appSSH, 10},
		{"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n", appSSH, 24},
		{"\x00\x1d\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a", appDNS, 14},
		{"\x00\x00\x00\x08\x04\xd2\x16\x2f", appUnknown, 2},
		{"EHLO mail.example\r\n", appUnknown, 18},
		{"EHLO ip-198-51-100-7.compute.example\r\n", appUnknown, 24},
	} {
		for n := range len(c.bytes) + 1 {
			got, ok := recognise([]byte(c.bytes[:n]))
			if ok != (n >= c.after) || ok && got != c.want {
				t.Errorf("%q: %s, %v after %d bytes", c.bytes, got, ok, n)
			}
		}
	}
}
