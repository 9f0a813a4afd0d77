// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"encoding/binary"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// attr is an attribute of netlink, padded.
func attr(kind uint16, value ...byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofNlAttr+len(value)))
	b = append(binary.NativeEndian.AppendUint16(b, kind), value...)
	return append(b, make([]byte, -len(b)&3)...)
}

// link is an interface of a kind, with what that kind says of itself.
func link(kind string, data ...byte) []byte {
	info := slices.Concat(attr(unix.IFLA_INFO_KIND, append([]byte(kind), 0)...),
		attr(unix.IFLA_INFO_DATA, data...))
	return slices.Concat(make([]byte, unix.SizeofIfInfomsg),
		attr(unix.IFLA_IFNAME, []byte("eth0\x00")...), attr(unix.IFLA_LINKINFO, info...))
}

func TestParseLink(t *testing.T) {
	mode := func(m uint16) []byte {
		return attr(ipvlanMode, binary.NativeEndian.AppendUint16(nil, m)...)
	}
	for name, tt := range map[string]struct {
		answer []byte
		want   bool
	}{
		"ipvlan l3s":      {link("ipvlan", mode(ipvlanModeL3S)...), true},
		"ipvlan l3":       {link("ipvlan", mode(1)...), false},
		"ipvlan l2":       {link("ipvlan", mode(0)...), false},
		"ipvlan, no mode": {link("ipvlan"), false},
		"macvlan":         {link("macvlan", mode(ipvlanModeL3S)...), false},
		"no kind":         {make([]byte, unix.SizeofIfInfomsg), false},
	} {
		if got, err := parseLink(tt.answer); got != tt.want || err != nil {
			t.Errorf("%s: %t, %v, want %t", name, got, err, tt.want)
		}
	}
	if _, err := parseLink(make([]byte, unix.SizeofIfInfomsg-1)); err == nil {
		t.Error("no error for a body that is too short")
	}
}

func FuzzParseLink(f *testing.F) {
	f.Add(link("ipvlan", attr(ipvlanMode, 2, 0)...))
	f.Add(link("veth"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if l3s, err := parseLink(b); l3s && err != nil {
			t.Errorf("l3s with error %v", err)
		}
	})
}
