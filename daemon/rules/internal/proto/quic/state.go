// SPDX-License-Identifier: Apache-2.0

package quic

import "bytes"

// Bounds of what a state does for a flow.
const (
	// maxTried is how many Initial packets it tries to decrypt. Each connection
	// takes at least one.
	maxTried = 4
	// maxForeign is how many datagrams of other versions the client may send
	// while the server negotiates.
	maxForeign = 4
)

// Status is what a datagram says of the ClientHello. Of several, the later in
// this order counts.
type Status uint8

// The statuses that [State.Feed] returns.
const (
	// Nothing: no Initial packet that anyone without further keys could open. A
	// server that knows nothing of the flow cannot open it either.
	Nothing Status = iota
	// NeedMore: a part of the hello is there.
	NeedMore
	// Limit: the hello is longer than 16 KiB, or not complete after 4 Initial
	// packets or 4 datagrams of other versions. Or a fifth Initial packet came,
	// which was not opened.
	Limit
	// Malformed: the packet has frames that no Initial packet has, or does not
	// start with a ClientHello. It says nothing of the client's next packets.
	Malformed
	// Complete: [State.Hello] has the hello.
	Complete
	// Conflict: the client sent other bytes than before at the same place, or
	// Initial packets of two connections in one datagram. What was sent before
	// stays.
	Conflict
)

// State is what is remembered of one flow: up to four connections, as clients
// may open several from one port. It has at most 24 KiB of buffers.
type State struct {
	opener      *Opener
	connections [maxTried]connection
	count       int
	current     int // the connection whose hello became complete last
	tried       uint8
	foreign     uint8
	status      Status
}

// Reset forgets the flow, so that the state can serve another.
func (s *State) Reset() {
	for i := range s.connections {
		s.connections[i].crypto.reset()
	}
	s.count, s.current, s.tried, s.foreign, s.status = 0, 0, 0, 0, Nothing
}

// Hello returns the handshake message that was complete last: its type, its
// length and the ClientHello. It is nil if none was. It is valid until the next
// call of Reset.
func (s *State) Hello() []byte {
	c := &s.connections[s.current].crypto
	if s.count == 0 || c.status() != Complete {
		return nil
	}
	return c.bytes[:c.size()]
}

// Pending reports whether a connection's hello is incomplete. Its rest can only
// be judged by a state that has its beginning.
func (s *State) Pending() bool {
	for i := range s.connections[:s.count] {
		if s.connections[i].crypto.status() == NeedMore {
			return true
		}
	}
	return false
}

// Feed reads a datagram: the payload of one UDP packet, or of one segment of a
// packet that the kernel merged. A datagram without a client's Initial packet
// leaves the status as it was. So does one that is cut off or not QUIC, as its
// receiver ignores it: a later one counts.
func (s *State) Feed(datagram []byte, fromClient bool) Status {
	if !fromClient {
		s.feedServer(datagram)
		return s.status
	}
	found := Nothing
	var dcid []byte
	for {
		p, rest, ok := cut(datagram)
		if !ok {
			break
		}
		switch {
		case p.kind == foreign:
			s.foreign = min(s.foreign+1, maxForeign)
		case p.kind != initial:
		case dcid != nil && !bytes.Equal(dcid, p.dcid):
			found = Conflict
		default:
			dcid = p.dcid
			found = max(found, s.initial(&p))
		}
		datagram = rest
	}
	return s.conclude(found)
}

// conclude makes the status of a datagram, of what was found in it.
func (s *State) conclude(found Status) Status {
	switch found {
	case NeedMore, Complete:
		s.status = found
	case Limit:
		if s.tried == maxTried {
			s.status = Limit
		}
	}
	if s.status < Limit && (s.tried == maxTried || s.foreign == maxForeign) {
		s.status = Limit
	}
	if found <= NeedMore {
		return s.status
	}
	return found
}

// initial reads a client's Initial packet.
func (s *State) initial(p *packet) Status {
	if s.tried == maxTried {
		return Limit
	}
	s.tried++
	i, plain := s.open(p)
	if i < 0 {
		return Nothing
	}
	c := &s.connections[i]
	status := c.crypto.frames(plain, s.room(i))
	if status == Complete {
		s.current = i
	}
	return status
}

// room is how long the stream of a connection may become.
func (s *State) room(connection int) int {
	room := maxCrypto
	for i := range s.connections[:s.count] {
		if i != connection {
			room -= len(s.connections[i].crypto.bytes)
		}
	}
	return room
}

// open opens an Initial packet with the keys of the connection that it is sent
// to, with those of its own connection ID, which make it the start of another
// connection, or with those of any other connection: the server chose an ID and
// its packet was not seen. It returns the number of the connection, or -1.
func (s *State) open(p *packet) (int, []byte) {
	dcid := newID(p.dcid)
	known := s.find(dcid, p.version)
	if known >= 0 {
		if plain, ok := s.connections[known].open(s.opener, p); ok {
			return known, plain
		}
	}
	if s.count < len(s.connections) {
		if plain, number, ok := s.opener.open(p, dcid, nil); ok {
			s.connections[s.count].begin(p, number)
			s.count++
			return s.count - 1, plain
		}
	}
	for i := s.count - 1; i >= 0; i-- {
		if i == known {
			continue
		}
		if plain, ok := s.connections[i].open(s.opener, p); ok {
			return i, plain
		}
	}
	return -1, nil
}

// find returns the newest connection that has the ID, or -1.
func (s *State) find(dcid id, version uint32) int {
	for i := s.count - 1; i >= 0; i-- {
		if s.connections[i].has(dcid, version) {
			return i
		}
	}
	return -1
}

// feedServer learns which connection IDs the server chose.
func (s *State) feedServer(datagram []byte) {
	for {
		p, rest, ok := cut(datagram)
		if !ok || p.kind == foreign { // such as Version Negotiation, which ends nothing
			return
		}
		client := newID(p.dcid)
		for i := s.count - 1; i >= 0; i-- {
			if s.connections[i].client == client {
				s.connections[i].learn(&p)
				break
			}
		}
		datagram = rest
	}
}
