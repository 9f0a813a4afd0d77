// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// marksTimeout is for looking into every netns, and rules may be many.
const marksTimeout = time.Minute

// markUse is a use of mark bits, which all pods of a mesh have in common.
type markUse struct {
	where string
	sets  bool
	mask  uint32
}

// marks has the daemon look for rules in pods' netns that match, or change, the
// bits of the packet mark that the inspector may set.
func (e *examination) marks(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, marksTimeout)
	defer cancel()
	report, err := e.client.Marks(ctx)
	switch {
	case api.CodeOf(err) == api.CodeReadOnly:
		e.add(Unknown, checkMarks, e.Socket, "not checked: "+err.Error(), rootRemedy)
		return
	case err != nil:
		e.notChecked(checkMarks, e.Socket, fmt.Errorf("look for marks: %w", err))
		return
	}
	for _, text := range report.Unreadable {
		e.add(Unknown, checkMarks, "", "not checked in "+text, "Run nsqueuectl doctor again.")
	}
	pods := make(map[markUse][]string)
	var order []markUse
	for i := range report.Uses {
		m := &report.Uses[i]
		u := markUse{m.Where, m.Sets, m.Mask}
		if pods[u] == nil {
			order = append(order, u)
		}
		pods[u] = append(pods[u], where(m.Key, m.Pod))
	}
	for _, u := range order {
		e.addUse(u, pods[u], report.MarkMask)
	}
	switch {
	case report.MarkMask == 0:
		e.ok(checkMarks, "", "the inspector sets none (markMask is 0)")
	case len(order) == 0:
		e.ok(checkMarks, "", "no rule in %d netns uses the bits of markMask 0x%08x",
			report.Netns, report.MarkMask)
	}
}

// addUse warns: it only matters where the inspector sets marks.
func (e *examination) addUse(u markUse, pods []string, mask uint32) {
	found := pods[0]
	if more := len(pods) - 1; more > 0 {
		found += fmt.Sprintf(" and %d more", more)
	}
	what := fmt.Sprintf("%s matches mark bits 0x%08x, of which 0x%08x are in markMask: it does "+
		"not match packets that the inspector has marked", u.where, u.mask, u.mask&mask)
	if u.sets {
		what = fmt.Sprintf("%s changes mark bits 0x%08x, of which 0x%08x are in markMask: "+
			"the marks of the inspector are lost", u.where, u.mask, u.mask&mask)
	}
	e.add(Warning, checkMarks, found, what,
		fmt.Sprintf("Give the rule a mask without these bits (MARK/0x%08x), or choose other bits "+
			"for markMask (0 if the inspector sets no marks).", u.mask&^mask))
}
