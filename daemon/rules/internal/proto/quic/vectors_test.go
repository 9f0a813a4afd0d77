// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"encoding/hex"
	"testing"
)

// The connection ID of RFC 9001, appendix A, and of RFC 9369, appendix A.
const vectorID = "\x83\x94\xc8\xf0\x3e\x51\x57\x08"

// The secrets of both appendices, A.1.
func TestSecrets(t *testing.T) {
	for _, c := range []struct {
		version         uint32
		key, iv, header string
	}{
		{version1, "1f369613dd76d5467730efcbe3b1a22d", "fa044b2f42a3fd3b46fb255c", "9f50449e04a0e810283a1e9933adedd2"},
		{version2, "8b1a0bc121284290a29e0971b5cd045d", "91f73e2351d8fa91660e909f", "45b95e15235d6f45a6b19cbcb0294ba9"},
	} {
		var s secrets
		s.derive(c.version, newID([]byte(vectorID)))
		for what, got := range map[string][]byte{c.key: s.key[:], c.iv: s.iv[:], c.header: s.header[:]} {
			if hex.EncodeToString(got) != what {
				t.Errorf("version %x: got %x, want %s", c.version, got, what)
			}
		}
	}
}

// The client's packets of both appendices, A.2, which have the same hello.
func TestVectors(t *testing.T) {
	const start = "010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c"
	for _, name := range []string{"rfc9001-client-initial.hex", "rfc9369-client-initial.hex"} {
		s := new(Opener).NewState()
		feed(t, s, feeding{datagram: readHex(t, name)[0], want: Complete})
		if h := s.Hello(); len(h) != 0xf1 || !bytes.HasPrefix(h, unhex(t, start)) {
			t.Errorf("%s: hello %x", name, h)
		}
	}
}

// The Retry packets of both appendices, A.4, then the client's next packet.
func TestVectorsOfRetry(t *testing.T) {
	const chosen = "\xf0\x67\xa5\x50\x2a\x42\x62\xb5"
	h := hello("a.blocked.example", 400)
	for _, c := range []struct {
		version uint32
		packet  string
	}{
		{version1, "ff000000010008f067a5502a4262b5746f6b656e04a265ba2eff4d829058fb3f0f2496ba"},
		{version2, "cf6b3343cf0008f067a5502a4262b5746f6b656ec8646ce8bfe33952d955543665dcc7b6"},
	} {
		s := new(Opener).NewState()
		first := sent{version: c.version, dcid: vectorID, payload: crypto(h, 0, 200)}
		second := sent{version: c.version, dcid: chosen, token: "token", number: 1, payload: crypto(h, 200, 400)}
		feed(t, s,
			feeding{datagram: first.seal(t), want: NeedMore},
			feeding{datagram: unhex(t, c.packet), server: true, want: NeedMore},
			feeding{datagram: second.seal(t), want: Complete, hello: h},
		)
	}
}

// Datagrams of real clients, in both versions; the last of each is not QUIC's start.
func TestCaptures(t *testing.T) {
	for _, name := range []string{"capture-v1.hex", "capture-v1-two-datagrams.hex", "capture-v2.hex"} {
		s := new(Opener).NewState()
		datagrams := readHex(t, name)
		client := datagrams[:len(datagrams)-1]
		for i, d := range client {
			want := NeedMore
			if i == len(client)-1 {
				want = Complete
			}
			feed(t, s, feeding{datagram: d, want: want})
		}
		if !bytes.Contains(s.Hello(), []byte("blocked.example")) {
			t.Errorf("%s: hello %x", name, s.Hello())
		}
	}
}
