// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/nlsock"
)

const (
	ipvlanMode    = 1 // IFLA_IPVLAN_MODE
	ipvlanModeL3S = 2 // IPVLAN_MODE_L3S

	// typeMask is without the flags of an attribute's type (NLA_TYPE_MASK).
	typeMask = 0x3fff
)

// ReceivesElsewhere reports whether the interface is an ipvlan in mode l3s: the
// IP stack of the netns of its parent receives for it. Where there is no interface of
// that name, the answer is no.
func (n *NetNS) ReceivesElsewhere(ifname string) (bool, error) {
	s, err := nlsock.Open(n, unix.NETLINK_ROUTE, nil)
	if err != nil {
		return false, err
	}
	defer s.Close()
	l3s := false
	err = s.Get(unix.RTM_GETLINK, linkRequest(ifname), func(body []byte) error {
		var err error
		l3s, err = parseLink(body)
		return err
	})
	if errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("get interface %s: %w", ifname, err)
	}
	return l3s, nil
}

// linkRequest is the body of a request for one interface.
func linkRequest(ifname string) []byte {
	name := append([]byte(ifname), 0)
	b := make([]byte, unix.SizeofIfInfomsg)
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofNlAttr+len(name)))
	b = binary.NativeEndian.AppendUint16(b, unix.IFLA_IFNAME)
	return append(b, name...)
}

// parseLink reads the body of an answer.
func parseLink(body []byte) (l3s bool, err error) {
	if len(body) < unix.SizeofIfInfomsg {
		return false, errors.New("malformed netlink message about an interface")
	}
	info := attribute(body[unix.SizeofIfInfomsg:], unix.IFLA_LINKINFO)
	kind, _, _ := bytes.Cut(attribute(info, unix.IFLA_INFO_KIND), []byte{0})
	mode := attribute(attribute(info, unix.IFLA_INFO_DATA), ipvlanMode)
	return string(kind) == "ipvlan" && len(mode) >= 2 &&
		binary.NativeEndian.Uint16(mode) == ipvlanModeL3S, nil
}

// attribute returns the value of the first attribute of a kind, nil for none.
func attribute(b []byte, kind uint16) []byte {
	for len(b) >= unix.SizeofNlAttr {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofNlAttr || length > len(b) {
			return nil
		}
		if binary.NativeEndian.Uint16(b[2:])&typeMask == kind {
			return b[unix.SizeofNlAttr:length]
		}
		b = b[min((length+3)&^3, len(b)):]
	}
	return nil
}
