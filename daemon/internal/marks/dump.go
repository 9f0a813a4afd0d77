// SPDX-License-Identifier: Apache-2.0

package marks

import (
	"errors"
	"os"

	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nlsock"
)

// errTooMany ends a list that takes too long.
var errTooMany = errors.New("there are too many rules")

// list asks a netlink protocol of the netns for everything of one kind, and calls
// each with the messages' bodies.
func (f *finder) list(
	ns *netns.NetNS, protocol int, kind uint16, body []byte, each func(body []byte) error,
) error {
	s, err := nlsock.Open(ns, protocol, nil)
	if err != nil {
		return err
	}
	defer s.Close()
	s.SetDeadline(f.deadline)
	err = s.Dump(kind, body, each)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errTooMany
	}
	return err
}
