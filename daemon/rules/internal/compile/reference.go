// SPDX-License-Identifier: Apache-2.0

package compile

import "strconv"

// Actions returns the words that rules have for actions.
func Actions() []string { return actionNames() }

// KnownFrom returns what a flow has to show before the variable is known, in the words of
// the reference.
func (v *Variable) KnownFrom() string {
	switch v.Reads &^ OfAuthor {
	case OfPod:
		return "attach"
	case Packet:
		return "the first packet"
	case App:
		return "the first bytes of payload"
	case TLS:
		return "the ClientHello"
	case DNS:
		return "each question of a message"
	case HTTP:
		return "the head of each request"
	}
	return "the end of looking"
}

// Absent returns what the variable is where a flow has nothing of the kind, as rules
// write it. It returns nothing for what is never absent.
func (v *Variable) Absent() string {
	f := &Flow{Pod: new(Pod), SocketUID: -1}
	switch {
	case v.str != nil:
		return strconv.Quote(v.str(f))
	case v.num != nil:
		return strconv.FormatInt(v.num(f), 10)
	case v.flag != nil:
		return strconv.FormatBool(v.flag(f))
	case v.list != nil:
		return "[]"
	}
	return ""
}
