// SPDX-License-Identifier: Apache-2.0

package ssh

import "testing"

func TestRecognize(t *testing.T) {
	for _, tc := range []struct {
		bytes     string
		yes, more bool
	}{
		{"", false, true},
		{"SSH", false, true},
		{"SSH-", true, false},
		{"SSH-2.0-OpenSSH_9.2\r\n", true, false},
		{"SSH-1.99-x", true, false},
		{"S", false, true},
		{"ssh-2.0", false, false},
		{"SSL", false, false},
		{"\x16\x03\x01", false, false},
	} {
		if yes, more := Recognize([]byte(tc.bytes)); yes != tc.yes || more != tc.more {
			t.Errorf("%q: %v, %v", tc.bytes, yes, more)
		}
	}
}
