// SPDX-License-Identifier: Apache-2.0

package http

import "math"

// Body returns how many of the next bytes belong to a body, to a chunk of one, or to a
// tunnel, which has no end. Nothing in them matters.
func (p *Parser) Body() uint64 {
	switch p.state {
	case inBody, inChunk:
		return p.left
	case inTunnel:
		return math.MaxUint64
	}
	return 0
}

// Skip says that n more bytes of a body, of which there are as many, were sent.
func (p *Parser) Skip(n uint64) {
	if p.Body() == 0 || p.state == inTunnel {
		return
	}
	p.left -= min(n, p.left)
	switch {
	case p.left > 0:
	case p.state == inBody:
		p.state = inHead
	case p.state == inChunk:
		p.state = inChunkEnd
	}
}
