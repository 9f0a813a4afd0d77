// SPDX-License-Identifier: Apache-2.0

package marks

import (
	"math/bits"
	"testing"
	"time"
)

// Any program with CAP_NET_ADMIN in a netns may have made what is read there.
func FuzzRules(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 8, 0, 16, 0, 255, 255, 255, 255})
	f.Add(append([]byte{1, 0, 0, 0}, 6, 0, 1, 0, 'm', 0, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		const mask = 0xff000000
		found := finder{mask: mask, deadline: time.Now().Add(time.Hour)}
		_ = found.rule("-4", b)
		_ = found.tableRule(b)
		for _, k := range families() {
			_ = found.entries(&k, "mangle", b)
		}
		if len(found.uses) > maxUses {
			t.Errorf("%d uses", len(found.uses))
		}
		for _, u := range found.uses {
			if u.Where == "" || bits.OnesCount32(u.Mask&mask) == 0 {
				t.Errorf("%+v", u)
			}
		}
	})
}
