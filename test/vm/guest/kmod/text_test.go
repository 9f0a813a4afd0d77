// SPDX-License-Identifier: Apache-2.0

//go:build vmguest

package kmod

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestProcFormat(t *testing.T) {
	load(t, "")
	n := newNetns(t)
	out := n.Run(t, "/bin/cat", "/proc/net/nsqueue")
	const want = `interface: 2
enabled: 0
queue_num: 80
queue_count: 1
bypass: 0
directions: all
protocols: all
generation: 0
hooks: no
seen: 0
exempt: 0
queued: 0
bypassed: 0
settle_timeout: 60000
settle_size: 65536
settled: 0
flows: 0
`
	if out != want {
		t.Errorf("/proc/net/nsqueue:\n%sexpected:\n%s", out, want)
	}
}

func TestSysctlAccepted(t *testing.T) {
	load(t, "")
	n := newNetns(t)
	for _, c := range []struct{ name, write, read string }{
		{"enabled", "1", "1"},
		{"enabled", "0\n", "0"},
		{"queue_num", "0", "0"},
		{"queue_num", "65535\n", "65535"},
		{"queue_num", "007", "7"},
		{"queue_count", "65529", "65529"},
		{"queue_count", "1", "1"},
		{"bypass", "1", "1"},
		{"generation", "63\n", "63"},
		{"generation", "0", "0"},
		{"settle_timeout", "10", "10"},
		{"settle_timeout", "86400000\n", "86400000"},
		{"settle_size", "1", "1"},
		{"settle_size", "1048576\n", "1048576"},
		{"directions", "forward,in", "in,forward"},
		{"directions", "out", "out"},
		{"directions", "in,out,forward", "all"},
		{"protocols", "icmp", "icmp"},
		{"protocols", "255,6,udp,58,0", "0,tcp,udp,icmpv6,255"},
		{"protocols", "tcp,tcp", "tcp"},
		{"protocols", everyProtocol(), "all"},
		{"protocols", "all\n", "all"},
	} {
		n.set(t, c.name, c.write)
		if got := n.get(t, c.name); got != c.read {
			t.Errorf("%s: wrote %q, read %q, expected %q", c.name, c.write, got, c.read)
		}
		if got := n.status(t)[c.name]; got != c.read {
			t.Errorf("%s: wrote %q, proc has %q, expected %q", c.name, c.write, got, c.read)
		}
	}
}

func everyProtocol() string {
	var all []string
	for i := range 256 {
		all = append(all, string(appendInt(nil, i)))
	}
	return strings.Join(all, ",")
}

func appendInt(out []byte, i int) []byte {
	if i >= 10 {
		out = appendInt(out, i/10)
	}
	return append(out, byte('0'+i%10))
}

// refused values, by field; the same parser serves sysctls and parameters.
func refused() map[string][]string {
	return map[string][]string{
		"enabled":     {"2", "-1", "yes", "4294967296", "4294967297", "1 ", " 1", "1\n\n", "0x1", "+1", "1,1", "1\x00"},
		"queue_num":   {"65536", "-1", "4294967376", "18446744073709551696", "80a", "0x50", "+80", " 80"},
		"queue_count": {"0", "65537", "65457", "4294967297", "-1", "two"},
		"bypass":      {"2", "4294967297", "on"},
		"generation":  {"64", "4294967295", "4294967297", "-1", "+1", "x", "1,2"},
		"directions":  {"input", "in,", ",in", "in,,out", "in out", "all,in", "IN"},
		"settle_timeout": {
			"0", "9", "86400001", "4294967296", "4294967306", "-10", "+10", "10ms", " 10", "1e3",
		},
		"settle_size": {"0", "1048577", "4294967295", "4294967297", "-1", "+1", "x"},
		"protocols":   {"256", "-1", "4294967302", "tcp,", "tcp,,udp", "tcp udp", "all,tcp", "ipip", "TCP", "+6", "6x"},
	}
}

func TestSysctlRefused(t *testing.T) {
	load(t, "")
	n := newNetns(t)
	n.set(t, "directions", "in,out")
	n.set(t, "protocols", "tcp,17")
	for name, values := range refused() {
		before := n.get(t, name)
		for _, value := range slices.Concat(values, []string{"\n", strings.Repeat("1,", 5000)}) {
			if err := n.trySet(name, value); !errors.Is(err, unix.EINVAL) {
				t.Errorf("%s: wrote %.20q: %v, expected EINVAL", name, value, err)
			}
			if after := n.get(t, name); after != before {
				t.Errorf("%s: refused %.20q changed %s to %s", name, value, before, after)
			}
		}
	}
	if got := n.status(t)["hooks"]; got != "no" {
		t.Errorf("refused values armed the netns: hooks %s", got)
	}
}

// A second write through one descriptor is at an offset, and is refused.
func TestSysctlOffset(t *testing.T) {
	load(t, "")
	n := newNetns(t)
	n.must(t, func() error {
		fd, err := unix.Open("/proc/sys/net/nsqueue/queue_num", unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if _, err := unix.Write(fd, []byte("81")); err != nil {
			return err
		}
		if _, err := unix.Write(fd, []byte("2")); !errors.Is(err, unix.EINVAL) {
			t.Errorf("write at an offset: %v, expected EINVAL", err)
		}
		_, err = unix.Pwrite(fd, []byte("82"), 0)
		return err
	})
	if got := n.get(t, "queue_num"); got != "82" {
		t.Errorf("queue_num is %s", got)
	}
}

func TestParameters(t *testing.T) {
	load(t, "queue_num=90 protocols=tcp,icmpv6 directions=out,in queue_bypass=1")
	s := newNetns(t).status(t)
	for key, want := range map[string]string{
		"queue_num": "90", "protocols": "tcp,icmpv6", "directions": "in,out", "bypass": "1",
	} {
		if s[key] != want {
			t.Errorf("a new netns has %s %s, expected %s", key, s[key], want)
		}
	}
}

func TestParametersRefused(t *testing.T) {
	bad := map[string][]string{
		"default_enabled": {"3", "-1", "yes", "4294967297"},
		"queue_bypass":    {"2", "-1", "yes", "4294967297"},
		"settle_total":    {"67108865", "-1", "many", "4294967297"},
		"queue_num":       refused()["queue_num"][:6], // a space would end the parameter
		"directions":      {"input", "in,", "all,in", "IN"},
		"protocols":       {"256", "tcp,", "all,tcp", "TCP"},
	}
	for name, values := range bad {
		for _, value := range values {
			err := insmod(name + "=" + value)
			if !errors.Is(err, unix.EINVAL) {
				t.Errorf("load with %s=%s: %v, expected EINVAL", name, value, err)
			}
			if loaded() {
				t.Fatalf("loaded with %s=%s", name, value)
			}
			expectLog(t, "nsqueue: parameter "+name+": bad value \""+value+"\"")
		}
	}
}

func TestLiveParameters(t *testing.T) {
	load(t, "settle_total=7")
	for name, c := range map[string]struct {
		before, value string
		refused       []string
	}{
		"queue_bypass": {"0", "1", []string{"2", "4294967297", "-1", "", "on", "11111"}},
		"settle_total": {"7", "67108864", []string{"67108865", "4294967296", "-1", "", "x", "+1", "1 1", "000000000001"}},
	} {
		expect := func(want string) {
			t.Helper()
			text, err := os.ReadFile(parameters + name)
			if err != nil || string(text) != want+"\n" {
				t.Errorf("%s is %q, %v, expected %s", name, text, err, want)
			}
		}
		for _, value := range c.refused {
			if err := writeFile(parameters+name, value+"\n"); !errors.Is(err, unix.EINVAL) {
				t.Errorf("%s: wrote %q: %v, expected EINVAL", name, value, err)
			}
		}
		expect(c.before)
		if err := writeFile(parameters+name, c.value+"\n"); err != nil {
			t.Errorf("%s: wrote %s: %v", name, c.value, err)
		}
		expect(c.value)
	}
}

func expectLog(t *testing.T, want string) {
	t.Helper()
	out, err := exec.Command("/bin/dmesg").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), want) {
		t.Errorf("the kernel log has no line %q", want)
	}
}
