// SPDX-License-Identifier: Apache-2.0

package doctor

import "github.com/nsqueue/nsqueue/ctl/internal/text"

// rules says whether those that nsqueued is to judge by are in force.
func (e *examination) rules() {
	r := e.status.Rules
	switch {
	case r == nil:
		e.ok(checkRules, "", "nsqueued has none")
	case r.Problem == "":
		e.ok(checkRules, r.From(), "%s in force", text.Plural(r.Sets, "set"))
	case r.Loaded == nil:
		e.add(Wrong, checkRules, r.From(),
			r.Problem+"; failure policies decide about all packets", rulesRemedy)
	default:
		e.add(Wrong, checkRules, r.From(), r.Problem+"; the rules of before stay in force",
			rulesRemedy)
	}
}

const rulesRemedy = "Mend the file: nsqueued reads it at once. nsqueuectl rules check tells all " +
	"that is wrong, and nsqueuectl rules list what is in force."
