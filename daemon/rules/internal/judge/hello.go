// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"encoding/binary"

	"github.com/nsqueue/nsqueue/daemon/rules/internal/compile"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/proto/tls"
)

// hello is what a client of TLS or QUIC said.
type hello struct {
	name, version, ja4 string
	alpn               []string
	ech                bool
}

func (h *hello) tell(f *compile.Flow) {
	f.TLSServerName, f.TLSVersion, f.TLSJA4 = h.name, h.version, h.ja4
	f.TLSALPN, f.TLSECH = h.alpn, h.ech
}

// intern returns the number of what a hello says. Where no memory is left, it is 0, and
// the second value has what it says.
func (p *Pod) intern(h *tls.Hello, over tls.Transport) (uint32, hello) {
	key := p.key[:0]
	flag := byte(0)
	if h.ECH {
		flag = 1
	}
	key = binary.BigEndian.AppendUint16(append(key, flag), h.Version)
	key = h.AppendJA4(key, over)
	ja4 := key[3:]
	key = append(append(key, 0), h.SNI...)
	key = append(append(key, 0), h.ALPN...)
	p.key = key
	if number := p.hellos.find(key); number != 0 {
		return number, hello{}
	}
	said := hello{
		name: string(h.SNI), version: h.VersionName(), ja4: string(ja4), ech: h.ECH,
	}
	cost := len(said.name) + len(said.ja4)
	for protocol := range h.ALPN.All() {
		said.alpn = append(said.alpn, string(protocol))
		cost += 16 + len(protocol)
	}
	return p.hellos.add(string(key), said, cost), said
}

// learnHello takes a hello for a flow.
func (p *Pod) learnHello(f *facts, h *tls.Hello, over tls.Transport) {
	number, said := p.intern(h, over)
	p.hellos.hold(number)
	p.hellos.release(f.hello)
	f.hello = number
	f.failure = noFailure
	if number != 0 {
		f.flags |= knowsHello
		said = *p.hellos.get(number)
	}
	p.flow.Known = compile.Everything
	p.flow.AppError = ""
	said.tell(&p.flow)
}
