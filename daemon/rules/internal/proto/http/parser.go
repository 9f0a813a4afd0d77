// SPDX-License-Identifier: Apache-2.0

// Package http reads the requests of an HTTP/1 client (RFC 9112), strictly: what
// that forbids is malformed. It starts nothing, and keeps of a connection no more
// than an unfinished head.
package http

import "bytes"

// MaxHead is how long a request's head may be, and each of a body's lines.
const MaxHead = 8 << 10

// A Status is what Next found.
type Status uint8

// What Next finds.
const (
	// More says that the bytes are used up, and that nothing is wrong with them.
	More Status = iota
	// Complete says that a request's head is complete.
	Complete
	// Tunnel says that the client no longer speaks HTTP/1, by agreement.
	Tunnel
	// Malformed and Limit end it: nobody knows where the next request would start.
	Malformed
	Limit
)

// A Request is what a head says. Its fields are valid until the next call of Next.
// None has a control character but a tab in UserAgent.
type Request struct {
	Method []byte
	// Host is a DNS name or an IP address, in lower case, without the port, the
	// final dot and brackets. It may be empty.
	Host []byte
	// Path and Query are as they came. Path is empty for CONNECT.
	Path, Query []byte
	Version     []byte // such as 1.1
	UserAgent   []byte
	// Upgrade is set where the client asks for another protocol.
	Upgrade bool

	host [maxHost]byte
}

// A Parser follows one client. The zero value starts at the first byte.
type Parser struct {
	// Buffer keeps an unfinished head or line. It grows to MaxHead; the caller may
	// give it storage at the start, and take it back while Idle is true.
	Buffer []byte

	state   state
	pending bool   // the last request asked for a tunnel
	lined   int    // bytes of the complete lines that were read
	looked  int    // bytes without the end of a further line
	left    uint64 // bytes of the body, or of the chunk
	head    head
}

type state uint8

const (
	inHead state = iota
	inBody
	inChunkLine
	inChunk
	inChunkEnd
	inTrailer
	// What is below lasts.
	inTunnel
	isMalformed
	isOverLimit
)

// endOfLines is a status within the package: a part of a body has ended.
const endOfLines = Limit + 1

// Next takes bytes of the client, in order, and reads up to the end of the first
// head that they complete. It returns what follows; the caller calls it again until
// rest is empty. After Tunnel, Malformed and Limit, each further call says the same.
//
// After a CONNECT or a request for an upgrade, only the server's answer tells what
// the client speaks. Until Switched is called, a line that begins with a method and has
// a version of HTTP is read as a request, and anything else is a tunnel.
func (p *Parser) Next(b []byte, r *Request) (rest []byte, s Status) {
	for p.state < inTunnel {
		if p.state == inBody || p.state == inChunk {
			b = p.skipBody(b)
		}
		if len(b) == 0 {
			return nil, More
		}
		b, s = p.lines(b)
		if s == Complete {
			s = p.finish(r)
		}
		switch s {
		case More, Complete:
			return b, s
		case Tunnel:
			p.state = inTunnel
		case Malformed:
			p.state = isMalformed
		case Limit:
			p.state = isOverLimit
		}
	}
	return nil, p.ended()
}

// Switched tells the parser that the server has answered 101, or 2xx to a CONNECT.
func (p *Parser) Switched() { p.state, p.Buffer = inTunnel, p.Buffer[:0] }

// Idle reports whether the parser keeps nothing in Buffer.
func (p *Parser) Idle() bool { return len(p.Buffer) == 0 }

// InHead reports whether the parser has a part of a head.
func (p *Parser) InHead() bool { return p.state == inHead && len(p.Buffer) > 0 }

func (p *Parser) ended() Status {
	p.Buffer = p.Buffer[:0]
	switch p.state {
	case inTunnel:
		return Tunnel
	case isOverLimit:
		return Limit
	}
	return Malformed
}

// skipBody leaves out the bytes of a body, or of a chunk.
func (p *Parser) skipBody(b []byte) []byte {
	n := min(p.left, uint64(len(b)))
	p.left -= n
	if p.left == 0 && p.state == inBody {
		p.state = inHead
	} else if p.left == 0 {
		p.state = inChunkEnd
	}
	return b[n:]
}

// lines reads a head, or the lines between two chunks: where b has them whole, in
// place.
func (p *Parser) lines(b []byte) (rest []byte, s Status) {
	kept := len(p.Buffer)
	if kept == 0 {
		s = p.scan(b[:min(len(b), MaxHead)])
		if s != More {
			return b[p.restart():], s
		}
		p.restart()
		p.head = head{}
	}
	p.Buffer = append(p.Buffer, b[:min(len(b), MaxHead-kept)]...)
	if s = p.scan(p.Buffer); s == More {
		return nil, s
	}
	p.Buffer = p.Buffer[:0]
	return b[max(p.restart()-kept, 0):], s
}

// restart returns how many bytes of lines were read.
func (p *Parser) restart() (lined int) {
	lined, p.lined, p.looked = p.lined, 0, 0
	return lined
}

// scan reads the lines of b that it has not read yet.
func (p *Parser) scan(b []byte) Status {
	if p.pending && p.state == inHead {
		switch again(b) {
		case Undecided:
			return unfinished(b)
		case No:
			return Tunnel
		}
		p.pending = false
	}
	for {
		line, s := p.cutLine(b)
		if s != Complete {
			return s
		}
		if s = p.line(line); s != More {
			return s
		}
	}
}

// cutLine returns the next line, with Complete, or what is to be said without one. A CR
// that ends no line is malformed at once: servers exist for which it ends one.
func (p *Parser) cutLine(b []byte) ([]byte, Status) {
	n := bytes.IndexByte(b[p.looked:], '\n')
	if n < 0 {
		n = bytes.IndexByte(b[p.looked:], '\r')
		switch {
		case n < 0:
			p.looked = len(b)
		case p.looked+n+1 < len(b):
			return nil, Malformed
		default:
			p.looked += n
		}
		return nil, unfinished(b)
	}
	end := p.looked + n
	if end == p.lined || b[end-1] != '\r' {
		return nil, Malformed
	}
	line := b[p.lined : end-1]
	p.lined, p.looked = end+1, end+1
	return line, Complete
}

// unfinished says of lines which have not ended whether they may.
func unfinished(b []byte) Status {
	if len(b) == MaxHead {
		return Limit
	}
	return More
}

// line reads a line. It returns More where another line of the same part follows.
func (p *Parser) line(line []byte) Status {
	switch p.state {
	case inChunkLine:
		return p.chunkLine(line)
	case inChunkEnd:
		if len(line) != 0 {
			return Malformed
		}
		p.state = inChunkLine
		return endOfLines
	case inTrailer:
		if len(line) == 0 {
			p.state = inHead
			return endOfLines
		}
		return trailer(line)
	}
	return p.head.line(line)
}

// finish takes what the head says of the bytes that follow it, and fills r.
func (p *Parser) finish(r *Request) Status {
	h := p.head
	p.head = head{}
	if !h.fill(r) {
		return Malformed
	}
	p.pending = r.Upgrade || h.connect
	p.left = h.length
	if h.chunked {
		p.state = inChunkLine
	} else if h.length > 0 {
		p.state = inBody
	}
	return Complete
}
