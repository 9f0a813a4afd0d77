// SPDX-License-Identifier: Apache-2.0

package registry

import "testing"

// All that can be found is weighed as docs/reliability.md says.
func TestEvidence(t *testing.T) {
	old := evidence{held: true, age: emptyTime}
	for _, test := range []struct {
		what string
		with func(*evidence)
		want conclusion
	}{
		{"nothing is seen", func(*evidence) {}, undecided},
		{"at its path", func(e *evidence) { e.path, e.holders, e.link = there, absent, absent }, alive},
		{"at its path, all else hidden", func(e *evidence) { e.path = there }, alive},
		{"held, not at its path", func(e *evidence) { e.path, e.holders = absent, there }, alive},
		{"held, its interface gone", func(e *evidence) { e.holders, e.link = there, absent }, alive},
		{"not at its path, all else hidden", func(e *evidence) { e.path = absent }, undecided},
		{"its interface gone, all else hidden", func(e *evidence) { e.link = absent }, undecided},
		{"its interface gone and not at its path, processes hidden", func(e *evidence) {
			e.path, e.link = absent, absent
		}, undecided},
		{"no holder", func(e *evidence) { e.holders = absent }, gone},
		{"no holder, interface there", func(e *evidence) { e.holders, e.link = absent, there }, gone},
		{"no holder, young", func(e *evidence) { e.holders, e.age = absent, emptyTime-1 }, young},
		{"no holder, young, interface there", func(e *evidence) {
			e.holders, e.link, e.age = absent, there, 0
		}, young},
		{"no holder, young, interface gone", func(e *evidence) {
			e.holders, e.link, e.age = absent, absent, 0
		}, gone},
		{"record alone, nothing is seen", func(e *evidence) { e.held = false }, undecided},
		{"record alone, was at its path", func(e *evidence) { e.held, e.path = false, absent }, gone},
		{"record alone, no holder", func(e *evidence) {
			e.held, e.holders, e.age = false, absent, 0
		}, gone},
		{"record alone, holder", func(e *evidence) {
			e.held, e.path, e.holders = false, absent, there
		}, alive},
	} {
		e := old
		test.with(&e)
		if got := e.conclude(); got != test.want {
			t.Errorf("%s: conclusion %d, want %d", test.what, got, test.want)
		}
	}
}
