// SPDX-License-Identifier: Apache-2.0

package judge

// options are what a SYN's options say.
type options struct{ mptcp, joins, fastOpen bool }

// Kinds of TCP options (RFC 9293, 8684, 7413), and what they say of MPTCP.
const (
	optionEnd      = 0
	optionNone     = 1
	optionMPTCP    = 30
	optionFastOpen = 34
	mptcpJoin      = 1
)

// readOptions reads the options of a TCP header, which is whole.
func readOptions(transport []byte) (o options) {
	b := transport[20 : transport[12]>>4*4]
	for len(b) > 0 && b[0] != optionEnd {
		if b[0] == optionNone {
			b = b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			break
		}
		switch b[0] {
		case optionMPTCP:
			o.mptcp = true
			o.joins = o.joins || b[1] > 2 && b[2]>>4 == mptcpJoin
		case optionFastOpen:
			o.fastOpen = true
		}
		b = b[b[1]:]
	}
	return o
}
