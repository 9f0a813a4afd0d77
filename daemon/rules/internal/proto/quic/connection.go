// SPDX-License-Identifier: Apache-2.0

package quic

// connection is one of the connections that a client opened in a flow. It keeps
// four connection IDs.
type connection struct {
	version  uint32
	original id // where the client sent its first Initial packet
	client   id // where the server sends its packets
	retried  id // the source of the server's Retry, if hasRetried
	server   id // the source of the server's other packets, if answered

	hasRetried, answered bool

	numbers [maxTried]uint64 // of the packets that were opened
	opened  int
	crypto  stream
}

// source is the ID that the keys of a packet to dcid come from. The server's
// Initial packets do not change the keys, a Retry does (RFC 9001, 5.2).
func (c *connection) source(dcid id) id {
	if c.hasRetried && dcid != c.original {
		return c.retried
	}
	return c.original
}

// has reports whether packets to dcid belong to the connection. A packet to an ID
// that the server did not choose starts another one if its version differs.
func (c *connection) has(dcid id, version uint32) bool {
	if c.answered && dcid == c.server {
		return true
	}
	return c.version == version &&
		(dcid == c.original || c.hasRetried && dcid == c.retried)
}

// learn remembers the ID that the server chose. Only the first Retry and the
// first answer count (RFC 9000, 7.2 and 17.2.5.2).
//
// The tag of a Retry is not verified. A client that ignores the Retry sends
// nothing to its ID, and what is sent there must still be opened.
func (c *connection) learn(p *packet) {
	switch {
	case p.kind != retry && !c.answered:
		c.server, c.answered = newID(p.scid), true
	case p.kind == retry && !c.answered && !c.hasRetried && c.version == p.version:
		c.retried, c.hasRetried = newID(p.scid), true
	}
}

// open opens a packet with the connection's keys.
func (c *connection) open(o *Opener, p *packet) ([]byte, bool) {
	plain, number, ok := o.open(p, c.source(newID(p.dcid)), c.numbers[:c.opened])
	if ok {
		c.note(number)
	}
	return plain, ok
}

func (c *connection) note(number uint64) {
	if c.opened < len(c.numbers) {
		c.numbers[c.opened] = number
		c.opened++
	}
}

// begin makes c the connection that a client's packet starts.
func (c *connection) begin(p *packet, number uint64) {
	crypto := c.crypto
	crypto.reset()
	*c = connection{version: p.version, crypto: crypto}
	c.original, c.client = newID(p.dcid), newID(p.scid)
	c.note(number)
}
