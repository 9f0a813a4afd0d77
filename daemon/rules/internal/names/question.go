// SPDX-License-Identifier: Apache-2.0

package names

import (
	"hash/maphash"
	"net/netip"
	"slices"
	"time"
	"unsafe"
)

// question is a Question, with its name as a hash.
type question struct {
	server      netip.AddrPort
	name        uint64
	until       time.Duration
	id, port    uint16
	kind, class uint16
	protocol    uint8
	waits       bool // for an answer
}

const questionSize = int(unsafe.Sizeof(question{}))

func (t *Table) digest(q *Question) question {
	server := netip.AddrPortFrom(plain(q.Server.Addr()), q.Server.Port())
	return question{
		server: server, name: maphash.Bytes(t.seed, q.Name), id: q.ID, port: q.ClientPort,
		kind: q.Type, class: q.Class, protocol: q.Protocol,
		waits: true,
	}
}

// find returns where the question is, or -1.
func (t *Table) find(q *question) int {
	return slices.IndexFunc(t.questions, func(have question) bool {
		have.until = q.until
		return have == *q
	})
}

// trusts reports whether answers of a resolver count.
func (t *Table) trusts(server netip.Addr) bool {
	if t.config.Resolvers == nil {
		return true
	}
	return slices.ContainsFunc(t.config.Resolvers, func(a netip.Addr) bool {
		return plain(a) == plain(server)
	})
}
