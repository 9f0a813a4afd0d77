// SPDX-License-Identifier: Apache-2.0

package dns

const (
	maxName  = 255 // bytes of a name in a message, with its final zero
	maxHops  = 127 // as many as a name can have labels
	pointer  = 0xc0
	pointerN = 2 // bytes of a pointer
)

// appendName appends the text of the name at off, and returns where the name ends
// in the message. A pointer leads to before the labels that it follows, so that no
// chain of them is endless.
func appendName(text, b []byte, off int) (_ []byte, end int, err error) {
	start, first, length, hops := len(text), off, 1, 0
	for {
		n, err := labelAt(b, off)
		switch {
		case err != nil:
			return text[:start], 0, err
		case n == 0:
			return text, endOr(end, off+1), nil
		case n >= pointer:
			end = endOr(end, off+pointerN)
			off = pointsTo(b, off)
			if hops++; off >= first || off < headerLen || hops > maxHops {
				return text[:start], 0, ErrMalformed
			}
			first = off
			continue
		}
		if length += 1 + n; length > maxName {
			return text[:start], 0, ErrMalformed
		}
		text = appendLabel(text, b[off+1:off+1+n], len(text) > start)
		off += 1 + n
	}
}

// pointsTo returns where the pointer at off leads to.
func pointsTo(b []byte, off int) int { return int(b[off]&^pointer)<<8 | int(b[off+1]) }

// endOr returns where a name ends: at its first pointer, or else at its last byte.
func endOr(end, here int) int {
	if end != 0 {
		return end
	}
	return here
}

// skipName returns where the name at off ends. It does not follow a pointer, but wants
// it to lead to before the name.
func skipName(b []byte, off int) (end int, err error) {
	for start := off; ; {
		n, err := labelAt(b, off)
		switch {
		case err != nil:
			return 0, err
		case n == 0:
			return off + 1, nil
		case n >= pointer:
			if to := pointsTo(b, off); to >= start || to < headerLen {
				return 0, ErrMalformed
			}
			return off + pointerN, nil
		}
		if off += 1 + n; off-start >= maxName {
			return 0, ErrMalformed
		}
	}
}

// labelAt returns the first byte of the label or of the pointer at off, which is
// whole.
func labelAt(b []byte, off int) (int, error) {
	if off >= len(b) {
		return 0, ErrShort
	}
	n, length := int(b[off]), int(b[off])
	if n >= pointer {
		length = pointerN - 1
	} else if n >= 0x40 {
		return 0, ErrMalformed
	}
	if off+1+length > len(b) {
		return 0, ErrShort
	}
	return n, nil
}

// appendLabel appends a label in lower case, escaped as in zone files, after a dot if
// others are before it.
func appendLabel(text, label []byte, dot bool) []byte {
	if dot {
		text = append(text, '.')
	}
	for _, c := range label {
		switch {
		case 'A' <= c && c <= 'Z':
			text = append(text, c|0x20)
		case c == '.' || c == '\\':
			text = append(text, '\\', c)
		case c <= ' ' || c >= 0x7f:
			text = append(text, '\\', '0'+c/100, '0'+c/10%10, '0'+c%10)
		default:
			text = append(text, c)
		}
	}
	return text
}
