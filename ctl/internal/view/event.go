// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"strings"
	"time"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/daemon/api"
)

// Events is the table of events, in the order that they have.
func Events(list []api.Event, id func(string) string) *text.Table {
	t := &text.Table{
		Head:    []string{"TIME", "KIND", "ATTACHMENT", "POD", "MESSAGE"},
		Elastic: "POD", Spare: []string{"ATTACHMENT"}, Prose: true,
	}
	for i := range list {
		e := &list[i]
		t.Add(EventTime(e), string(e.Kind), id(e.ContainerID)+"/"+e.Ifname, e.Pod.String(),
			EventMessage(e))
	}
	return t
}

// EventLine is an event in one line, which is to be escaped.
func EventLine(e *api.Event) string {
	return fmt.Sprintf("%s  %-10s  %s/%s  %s  %s", EventTime(e), e.Kind, ShortID(e.ContainerID),
		e.Ifname, e.Pod, strings.Join(strings.Fields(EventMessage(e)), " "))
}

// EventMessage is the message, with how often it came.
func EventMessage(e *api.Event) string {
	message := e.Message
	if n := e.Refusal.Count; n > 1 {
		message += fmt.Sprintf(" (%d times)", n)
	}
	if n := e.Refusal.Suppressed; n > 0 {
		message += fmt.Sprintf(" (and %d more of the rule)", n)
	}
	return message
}

// EventTime is when it happened, as tables and lines have it.
func EventTime(e *api.Event) string { return e.Time.UTC().Format(time.RFC3339) }
