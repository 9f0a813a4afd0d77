// SPDX-License-Identifier: Apache-2.0

package programs

import "testing"

// Each turn with a group begins when the one before has ended.
func TestTurns(t *testing.T) {
	turns := newTurns()
	var done [3]chan struct{}
	var begins [3]<-chan struct{}
	for i := range done {
		done[i] = make(chan struct{})
		begins[i] = turns.take("group", done[i])
	}
	other := make(chan struct{})
	if turns.takeFree("group", other) || !turns.takeFree("other", other) {
		t.Error("want a free turn with the other group alone")
	}
	for i := range done {
		<-begins[i]
		for _, later := range begins[i+1:] {
			select {
			case <-later:
				t.Error("two turns at once")
			default:
			}
		}
		turns.end("group", done[i])
	}
	if len(turns.last) != 1 {
		t.Errorf("%d turns are remembered, want that of the other group", len(turns.last))
	}
}
