// SPDX-License-Identifier: Apache-2.0

package node

import (
	"runtime"
	"testing"
)

func TestAddProcessor(t *testing.T) {
	t.Setenv("GOMAXPROCS", "")
	before := runtime.GOMAXPROCS(0)
	remove := addProcessor()
	if got := runtime.GOMAXPROCS(0); got != before+1 {
		t.Errorf("%d processors, want one more than %d", got, before)
	}
	remove()
	t.Setenv("GOMAXPROCS", "7")
	remove = addProcessor()
	defer remove()
	if got := runtime.GOMAXPROCS(0); got > before {
		t.Errorf("%d processors, want no more than before", got)
	}
}
