// SPDX-License-Identifier: Apache-2.0

package doctor

import "testing"

func TestCompare(t *testing.T) {
	for _, tt := range []struct {
		x, y string
		want relation
	}{
		{"v1.2.3", "v1.2.3", same},
		{"v1.2.3", "v1.2.4", different},
		{"v1.2.3", "v1.2.3-rc.1", different},
		{"v1.2.3", "v1.2.3-4-gabcdef0", different},
		{"v1.3.0", "v1.2.3-4-gabcdef0", unclear}, // tagged later
		{"v1.2.3-4-gabcdef0", "v1.2.4-0.20260102150405-abcdef012345", same},
		{"v1.2.3-5-gabcdef1", "v1.2.4-0.20260102150405-abcdef012345", different},
		{"abcdef0", "v0.0.0-20260102150405-abcdef012345", same},
		{"abcdef0", "v0.0.0-20260102150405-abcdef012345+dirty", unclear},
		{"abcdef0-dirty", "abcdef012345-dirty", unclear},
		{"abcdef0-dirty", "abcdef0-dirty", same},
		{"abcdef0-dirty", "abcdef1", different},
		{"abcdef0", "v1.2.3", unclear},
		{"v1.2.3", "v1.2.3-dirty", unclear},
		{"v1.2.3", "v1.2.3 of example.com/fork", unclear},
		{"v1.2.3", "unknown", unclear},
		{"unknown", "unknown", unclear},
		{"(devel)", "(devel)", unclear},
		{"", "", unclear},
		{"1.2.3-1ubuntu1", "1.2.3-1ubuntu1", same}, // what a packager linked
		{"1.2.3-1ubuntu1", "1.2.3-1ubuntu2", unclear},
	} {
		if got := compare(tt.x, tt.y); got != tt.want {
			t.Errorf("%s and %s: %d, want %d", tt.x, tt.y, got, tt.want)
		}
		if got := compare(tt.y, tt.x); got != tt.want {
			t.Errorf("%s and %s: %d, want %d", tt.y, tt.x, got, tt.want)
		}
	}
}
