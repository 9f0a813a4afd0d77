// SPDX-License-Identifier: Apache-2.0

package fdstore

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Kind says what a stored descriptor is. The letters are the version of the
// store's contents as well: what changes its meaning gets another letter.
type Kind byte

// The kinds.
const (
	Queue    Kind = 'q' // a queue's socket
	Table    Kind = 't' // the socket that owns a netns' nftables table
	Listener Kind = 'l' // a socket that the API listens on
	Program  Kind = 'p' // a copy of the socket by which a program reads a queue
)

func (k Kind) valid() bool { return strings.ContainsRune("qtlp", rune(k)) }

// Name is what a descriptor is stored under. Several may share one, such as the
// queues of a netns; they are removed together.
//
// All names travel in one environment string of at most 128 KiB, so that they
// are short: 15 bytes at most, those of programs 20.
type Name struct {
	Kind Kind
	// Cookie of the netns; zero for a listener.
	Cookie uint64
	// Number of the queue, for a program.
	Number uint16
	// Strict is for failure policy Fail: a supervisor that gives up on
	// starting a daemon lets go of all others.
	Strict bool
}

const (
	letterIgnore = 'i'
	letterFail   = 'f'
	base         = 36
)

// String returns the name as it is stored: kind, cookie, number, policy.
func (n Name) String() string {
	policy := byte(letterIgnore)
	if n.Strict {
		policy = letterFail
	}
	b := strconv.AppendUint([]byte{byte(n.Kind)}, n.Cookie, base)
	if n.Kind == Program {
		b = strconv.AppendUint(append(b, '.'), uint64(n.Number), base)
	}
	return string(append(b, policy))
}

// ErrForeignName is in the chain of ParseName's error: the descriptor was
// stored by something else, or by a version of nsqueued that knows more kinds.
var ErrForeignName = errors.New("not a name that this version of nsqueued stores")

// ParseName returns the Name whose String is s.
func ParseName(s string) (Name, error) {
	if len(s) < 3 || !Kind(s[0]).valid() {
		return Name{}, fmt.Errorf("stored descriptor %.64q: %w", s, ErrForeignName)
	}
	n := Name{Kind: Kind(s[0]), Strict: strings.HasSuffix(s, string(letterFail))}
	text, number, _ := strings.Cut(s[1:len(s)-1], ".")
	cookie, err := strconv.ParseUint(text, base, 64)
	n.Cookie = cookie
	if n.Kind == Program {
		short, _ := strconv.ParseUint(number, base, 16)
		n.Number = uint16(short)
	}
	if err != nil || n.String() != s { // other ways to write a number
		return Name{}, fmt.Errorf("stored descriptor %.64q: %w", s, ErrForeignName)
	}
	return n, nil
}
