// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"fmt"
	"strings"
)

// maxPanicText is how much is kept of what a panic says.
const maxPanicText = 200

// panicked keeps the first panic's text, and passes every panic on. A panic may come
// with each packet, so that no other's text is made.
func (r *Reader) panicked(said any) {
	if r.panic.Load() == nil {
		text := PanicText(said)
		r.panic.CompareAndSwap(nil, &text)
	}
	if r.options.Panicked != nil {
		r.options.Panicked(r, said)
	}
}

// PanicText returns what a panic says, cut to a length that a log line bears.
func PanicText(said any) string {
	text := fmt.Sprint(said)
	if len(text) > maxPanicText {
		text = text[:maxPanicText] + "..."
	}
	return strings.ToValidUTF8(text, "?")
}

// TakePanic returns the text of the first panic since it was called last, empty
// for none.
func (r *Reader) TakePanic() string {
	if text := r.panic.Swap(nil); text != nil {
		return *text
	}
	return ""
}
