// SPDX-License-Identifier: Apache-2.0

package marks

import (
	"bytes"
	"encoding/binary"
)

// extension is a match or a target of iptables.
type extension struct {
	target   bool
	name     string
	revision uint32
	info     []byte // in host order
}

// name cuts a name at its end.
func name(b []byte) string {
	before, _, _ := bytes.Cut(b, []byte{0})
	return string(before)
}

// What CONNMARK does (linux/netfilter/xt_connmark.h).
const (
	connmarkSave    = 1
	connmarkRestore = 2
)

// marks returns the bits that the extension looks at, and those that it changes.
// What is saved as the connection's mark is looked at: it comes back.
func (x *extension) marks() (reads, sets uint32) {
	switch {
	case !x.target && x.name == "mark" && x.revision >= 1:
		return x.word(1), 0 // struct xt_mark_mtinfo1: mark, mask
	case x.target && x.name == "MARK" && x.revision >= 2:
		return 0, x.word(1) // struct xt_mark_tginfo2: mark, mask
	case x.target && x.name == "CONNMARK":
		return x.connmark()
	case x.target && x.name == "TPROXY" && x.revision <= 1:
		return 0, x.word(0) // both revisions begin with the mask
	}
	return 0, 0
}

func (x *extension) connmark() (reads, sets uint32) {
	mode := 12 // after ctmark, ctmask, nfmask
	if x.revision >= 2 {
		mode += 2 // and how they are shifted
	}
	if len(x.info) <= mode {
		return 0, 0
	}
	switch x.info[mode] {
	case connmarkSave:
		return x.word(2), 0
	case connmarkRestore:
		return 0, x.word(2)
	}
	return 0, 0
}

// word returns the n-th number of 32 bits.
func (x *extension) word(n int) uint32 {
	if len(x.info) < 4*n+4 {
		return 0
	}
	return binary.NativeEndian.Uint32(x.info[4*n:])
}
