// SPDX-License-Identifier: Apache-2.0

package http

// maxChunkDigits keeps a chunk's size within what fits into 63 bits.
const maxChunkDigits = 15

// chunkLine reads the line before a chunk: its size, and extensions.
func (p *Parser) chunkLine(line []byte) Status {
	var size uint64
	n := 0
	for n < len(line) {
		digit, ok := hexDigit(line[n])
		if !ok {
			break
		}
		size = size<<4 | uint64(digit)
		if n++; n > maxChunkDigits {
			return Malformed
		}
	}
	extensions := skip(line[n:], isSpace)
	if n == 0 || !all(extensions, isValue) ||
		len(line) > n && (len(extensions) == 0 || extensions[0] != ';') {
		return Malformed
	}
	p.left, p.state = size, inChunk
	if size == 0 {
		p.state = inTrailer
	}
	return endOfLines
}

// trailer reads a field behind a body. One that says where a request goes, or where it
// ends, may not be there (RFC 9110, section 6.5.1).
func trailer(line []byte) Status {
	name, _, ok := splitField(line)
	if !ok || fold(name, "host") || fold(name, "content-length") ||
		fold(name, "transfer-encoding") {
		return Malformed
	}
	return More
}

func hexDigit(c byte) (value byte, ok bool) {
	switch {
	case isDigit(c):
		return c - '0', true
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return (c | 0x20) - 'a' + 10, true
	}
	return 0, false
}
