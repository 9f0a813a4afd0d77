// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/daemon/api"
)

// labels says whether rules come to know the labels of pods.
func (e *examination) labels() {
	l := e.status.Labels
	switch {
	case l == nil:
		e.ok(checkLabels, "", "nsqueued needs none")
	case l.Source == api.LabelsNone:
		e.ok(checkLabels, "", "no source, and rules that ask for them are refused")
	case !l.Connected:
		e.add(Wrong, checkLabels, l.Socket, "the runtime does not tell the labels of pods: "+
			l.Problem, "Have the runtime serve NRI there, and nsqueued see that directory. Pods "+
			"that start meanwhile are judged as pods without labels; labels.source: none "+
			"refuses rules that ask for them.")
	case l.Late > 0:
		e.add(Warning, checkLabels, l.Socket, text.Plural(int(l.Late), "pod")+" have started "+
			"before the rules of their labels were in force", "The node was busy, or nsqueued "+
			"hung. Their rules are in force by now.")
	default:
		e.ok(checkLabels, l.Socket, "%s tells them", l.Runtime)
	}
}
