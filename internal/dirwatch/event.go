// SPDX-License-Identifier: Apache-2.0

package dirwatch

import (
	"bytes"
	"encoding/binary"
	"iter"

	"golang.org/x/sys/unix"
)

// Event is one event of the kernel.
type Event struct {
	// Mask says what happened, in the bits IN_... of package unix. The kernel reports
	// lost events (IN_Q_OVERFLOW) and the end of a watch (IN_IGNORED) in any case.
	Mask uint32
	// Name is the file's name in its directory. It is empty where the event is about
	// the directory.
	Name string
}

// The layout of struct inotify_event: watch, mask, cookie and the length of the
// name, which follows and is padded with zeros.
const (
	maskOffset   = 4
	lengthOffset = 12
)

// events returns the events that one read of inotify's descriptor has returned.
// It ends at an event that is cut off, which the kernel never returns.
func events(b []byte) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		for len(b) >= unix.SizeofInotifyEvent {
			mask := binary.NativeEndian.Uint32(b[maskOffset:])
			length := uint64(binary.NativeEndian.Uint32(b[lengthOffset:]))
			b = b[unix.SizeofInotifyEvent:]
			if length > uint64(len(b)) {
				return
			}
			name, _, _ := bytes.Cut(b[:length], []byte{0})
			b = b[length:]
			if !yield(Event{Mask: mask, Name: string(name)}) {
				return
			}
		}
	}
}
