// SPDX-License-Identifier: Apache-2.0

package netns

import "testing"

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
