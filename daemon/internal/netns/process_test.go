// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"slices"
	"testing"
)

func TestPaths(t *testing.T) {
	for path, want := range map[string][]string{
		"":                   nil,
		"/proc/7/ns/net":     {"/proc/7/ns/net"},
		"/run/netns/a":       {"/run/netns/a", "/var/run/netns/a"},
		"/var/run/netns/a":   {"/var/run/netns/a", "/run/netns/a"},
		"/var/running/netns": {"/var/running/netns"},
	} {
		if got := Paths(path); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
	}
}

func TestHidepid(t *testing.T) {
	const proc = "22 27 0:21 / /proc rw,relatime - proc proc "
	for text, want := range map[string]string{
		proc + "rw\n":                                  "",
		proc + "rw,hidepid=invisible\n":                "hidepid=invisible",
		proc + "rw,hidepid=0\n":                        "",
		proc + "rw,hidepid=2\n" + proc + "rw\n":        "",
		"1 2 0:3 / /x/proc rw - proc proc hidepid=2\n": "",
		"22 27 0:21 / /proc\n":                         "",
	} {
		if got := hidepid(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestIsKernelThread(t *testing.T) {
	for text, want := range map[string]bool{
		"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0":         true,
		"9 (a) S 0 0 0 0 -1 2129984) S 0 0 0 0 -1 64 0": false,
		"7 (sleep) S 1 7 7 0 -1 4194560 0 0":            false,
		"7 (sleep":                                      false,
		"":                                              false,
	} {
		if got := isKernelThread(text); got != want {
			t.Errorf("%q: %t, want %t", text, got, want)
		}
	}
}

// What a pod's owner names reaches mountinfo: no line may make it fail.
func FuzzNetnsMounts(f *testing.F) {
	f.Add("61 30 0:4 net:[4026532301] /run/netns/a\\040b rw shared:5 - nsfs nsfs rw\n")
	f.Add("61 30 0:4 net:[] /run\n61 30 x net:[1] /run\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, m := range netnsMounts(text) {
			if m.ino == 0 && m.point == "" {
				t.Errorf("%q: found %+v", text, m)
			}
		}
		hidepid(text)
		isKernelThread(text)
	})
}

func TestNetnsMounts(t *testing.T) {
	got := netnsMounts("61 30 0:4 net:[4026532301] /run/netns/a\\040b rw shared:5 - nsfs nsfs rw\n" +
		"62 30 0:4 mnt:[4026532302] /run/other rw - nsfs nsfs rw\n" +
		"63 30 0:21 / /proc rw - proc proc rw\n")
	want := []nsMount{{inode{4, 4026532301}, "/run/netns/a b"}}
	if !slices.Equal(got, want) {
		t.Errorf("found %+v, want %+v", got, want)
	}
}
