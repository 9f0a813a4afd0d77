// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"os"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/rules"
	"github.com/nsqueue/nsqueue/internal/pcap"
)

// The engine refuses the flows of a capture that are about names of its rules, and no
// other.
func TestEngineRefusesWhatItIsTo(t *testing.T) {
	captures, err := writeCaptures(t.TempDir(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, number := range []int{10, mostRules} {
		for i := range captures {
			c := &captures[i]
			counts := judged(t, c, number)
			want := c.refusedBy(number)
			if len(want) < fewRules || !maps.Equal(counts, want) {
				t.Errorf("%d rules, %d flows: refused %d, want %d: %s", number, c.flows,
					sum(counts), sum(want), difference(counts, want))
			}
		}
	}
}

func judged(t *testing.T, c *capture, number int) tally {
	t.Helper()
	loaded, err := rules.Compile(rules.File{Name: "rules.yaml", Data: []byte(ownRules(number))})
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(c.path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	reader, err := pcap.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	counts := make(tally)
	j := newJudge(loaded, counts)
	if err := j.judgeAll(reader); err != nil {
		t.Fatal(err)
	}
	if s := j.inspector.Stats(); s.Undecided > 0 || len(s.Errors) > 0 {
		t.Errorf("%+v", s)
	}
	return counts
}

func TestRefusedIn(t *testing.T) {
	const lines = `01/15/2027-08:00:00.1  [**] [1:1000007:1] r7 [**] [Classification: (null)] x
01/15/2027-08:00:00.2  [**] [1:1000007:1] r7 [**] [Classification: (null)] x
01/15/2027-08:00:00.3  [**] [1:1000000:1] r0 [**] [Classification: (null)] x
`
	if got := refusedIn(lines); !maps.Equal(got, map[string]int{"r7": 2, "r0": 1}) {
		t.Errorf("%v", got)
	}
}
