// SPDX-License-Identifier: Apache-2.0

package quic

// Split returns the beginning of datagrams that the kernel has merged, up to the next
// Initial packet, and what follows it. A receiver looks for packets only at the start of a
// datagram and behind another packet. Where datagrams start is not known, so what looks
// like an Initial packet counts wherever it is.
func Split(merged []byte) (first, rest []byte) {
	at := 1
	if p, behind, ok := cut(merged); ok && p.kind == initial {
		at = len(merged) - len(behind)
	}
	for ; at < len(merged); at++ {
		b := merged[at:]
		if b[0]&longForm == 0 || Recognise(b) != Yes {
			continue
		}
		if p, _, ok := cut(b); ok && p.kind == initial {
			return merged[:at:at], b
		}
	}
	return merged, nil
}
