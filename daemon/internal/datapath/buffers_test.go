// SPDX-License-Identifier: Apache-2.0

package datapath

import "testing"

func TestBufferSize(t *testing.T) {
	const mib = 1 << 20
	b := newBuffers(1024*mib, 8*mib)
	for n, want := range map[int]int{
		1: 8 * mib, 128: 8 * mib, 129: 4 * mib, 256: 4 * mib, 257: 2 * mib, 1024: mib,
		100_000: minReceiveBuffer,
	} {
		if got := b.size(n); got != want {
			t.Errorf("each of %d queues gets %d, want %d", n, got, want)
		}
	}
	if got := newBuffers(1<<30, 65536).size(1); got != 65536 {
		t.Errorf("a smaller wish became %d", got)
	}
}
