// SPDX-License-Identifier: Apache-2.0

package view

import (
	"strconv"
	"time"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/daemon/api"
)

// Rules is the table of rules, in the order in which they are asked.
func Rules(sets []api.RuleSet, now time.Time) *text.Table {
	t := &text.Table{
		Head: []string{
			"SET", "RULE", "ACTION", "MODE", "HITS", "LAST HIT", "PODS", "PRIORITY", "WHERE",
		},
		Elastic: "RULE", Spare: []string{"PODS", "MODE", "SET"},
		Extra: []string{"PRIORITY", "WHERE"},
	}
	for i := range sets {
		s := &sets[i]
		for _, r := range s.Rules {
			where := s.File
			if r.Line > 0 {
				where += ":" + strconv.Itoa(r.Line)
			}
			t.Add(s.Name, r.Name, r.Action, s.Mode, strconv.FormatUint(r.Hits, 10),
				Ago(r.LastHit, now), strconv.Itoa(s.Attachments), strconv.Itoa(s.Priority), where)
		}
	}
	return t
}

// Ago says how long ago something was.
func Ago(t *time.Time, now time.Time) string {
	if t == nil {
		return "-"
	}
	return text.Age(now.Sub(*t))
}
