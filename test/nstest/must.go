// SPDX-License-Identifier: Apache-2.0

package nstest

import "testing"

// Must ends the test where err is not nil.
func Must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
