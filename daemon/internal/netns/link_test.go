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

const devices = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     120       2    0    0    0     0          0         0      120       2    0    0    0     0       0          0
  eth0: 5250168    4111    0    0    0     0          0         0   326512    4333    0    0    0     0       0          0
 a:b:       9       1    0    0    0    0     0          0         0        2       3    0    0    0     0       0          0
`

func TestParseInterfaces(t *testing.T) {
	eth0 := Traffic{RxBytes: 5250168, RxPackets: 4111, TxBytes: 326512, TxPackets: 4333}
	both := Traffic{RxBytes: 5250177, RxPackets: 4112, TxBytes: 326512, TxPackets: 4335}
	for _, tt := range []struct {
		names []string
		want  Traffic
	}{
		{[]string{"eth0"}, eth0},
		{[]string{"eth0", "a:b"}, both},
		{[]string{"eth", "th0", "gone", ""}, Traffic{}},
		{nil, Traffic{}},
	} {
		if got, err := parseInterfaces([]byte(devices), tt.names); got != tt.want || err != nil {
			t.Errorf("%q: %+v, %v, want %+v", tt.names, got, err, tt.want)
		}
	}
	for _, bad := range []string{"eth0: 1 2 3\n", "eth0: a 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"} {
		if _, err := parseInterfaces([]byte(bad), []string{"eth0"}); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}

func TestSentByStack(t *testing.T) {
	v4 := "Ip: Forwarding OutRequests ForwDatagrams\nIp: 1 20 3\nIcmp: OutRequests\nIcmp: 7\n"
	v6 := "Ip6InReceives  5\nIp6OutRequests 100\nIp6OutForwDatagrams 1000\n"
	if got := sentIPv4([]byte(v4)) + sentIPv6([]byte(v6)); got != 1123 {
		t.Errorf("%d sent, want 1123", got)
	}
}

// What the kernel shows, names of interfaces come from a pod.
func FuzzInterfaces(f *testing.F) {
	f.Add([]byte(devices))
	f.Add([]byte("Ip: OutRequests\nIp: 4\n"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = parseInterfaces(b, []string{"eth0"})
		_ = sentIPv4(b) + sentIPv6(b)
	})
}
