// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/flowtab"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/names"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/proto/dns"
)

// nameServer notes what the pod calls the server of a flow that begins. The flow keeps
// that, whatever is forgotten.
func (p *Pod) nameServer(f *facts, server netip.Addr) {
	if !p.usesNames {
		return
	}
	p.list = p.resolved.Lookup(server, p.frame.now, p.list[:0])
	if len(p.list) == 0 {
		return
	}
	key := p.key[:0]
	for _, name := range p.list {
		key = append(append(key, name...), 0)
	}
	p.key = key
	f.names = p.names.find(key)
	if f.names == 0 {
		f.names = p.names.add(string(key), slices.Clone(p.list), 16*len(p.list))
	}
	p.names.hold(f.names)
}

// namesOf returns the names of a flow's server.
func (p *Pod) namesOf(f *facts) []string {
	if list := p.names.get(f.names); list != nil {
		return *list
	}
	return nil
}

// learnNames takes a message of DNS that was accepted: a question that the pod asks, or
// the answer to one.
func (p *Pod) learnNames(key *flowtab.Key, client flowtab.Side, f *facts, m *dns.Message) {
	if !p.usesNames || !f.has(outward) || len(m.Questions) != 1 {
		return
	}
	q := &m.Questions[0]
	asked := names.Question{
		ID: m.ID, Protocol: key.Protocol(), ClientPort: key.End(client).Port(),
		Server: key.End(!client), Name: q.Name, Type: q.Type, Class: q.Class,
	}
	switch toServer := p.frame.side == client; {
	case toServer && !m.Response:
		p.resolved.Asked(&asked, p.frame.now)
	case !toServer && m.Response:
		r := &p.tools().resolution
		if m.Resolve(0, r) == nil {
			a := names.Answer{Names: r.Names, Addrs: r.Addrs, TTL: r.TTL}
			p.resolved.Answered(&asked, &a, p.frame.now)
		}
	}
}

// protocol returns the name of a transport protocol in rules.
func (p *Pod) protocol(number uint8) string {
	switch number {
	case inspect.ProtoTCP:
		return "tcp"
	case inspect.ProtoUDP:
		return "udp"
	case inspect.ProtoICMP:
		return "icmp"
	case inspect.ProtoICMPv6:
		return "icmpv6"
	case inspect.ProtoSCTP:
		return "sctp"
	}
	name := p.numbers[number]
	if name == "" {
		name = strconv.Itoa(int(number))
		p.numbers[number] = name
	}
	return name
}
