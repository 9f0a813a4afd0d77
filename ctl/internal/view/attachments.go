// SPDX-License-Identifier: Apache-2.0

package view

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/daemon/api"
)

// Attachments is the table of attachments. The function id says how a container ID is
// shown: see [ShortID].
func Attachments(
	attachments []api.Attachment, id func(string) string, now time.Time,
) *text.Table {
	t := &text.Table{
		Head: []string{
			"CONTAINER ID", "IFNAME", "POD", "HOOK", "POLICY", "STATE", "QUEUE", "PACKETS",
			"DROPPED", "REJECTED", "AGE", "READER", "NETWORK", "ORIGIN", "NETNS COOKIE", "NETNS",
		},
		Elastic: "POD", Spare: []string{"HOOK", "READER", "QUEUE", "IFNAME", "STATE"},
		Extra: []string{"REJECTED", "NETWORK", "ORIGIN", "NETNS COOKIE", "NETNS"},
	}
	for i := range attachments {
		a := &attachments[i]
		t.Add(id(a.ContainerID), a.Ifname, a.Pod.String(), a.Hook, string(a.FailurePolicy),
			string(a.State), QueueNumbers(a.Queues), strconv.FormatUint(a.Counters.Packets, 10),
			strconv.FormatUint(a.Counters.Dropped, 10),
			strconv.FormatUint(a.Counters.Rejected, 10), text.Age(now.Sub(a.Created)),
			ReaderOf(a.Reader), cmp.Or(a.Network, "-"), cmp.Or(string(a.Origin), "-"),
			strconv.FormatUint(a.Netns.Cookie, 10), cmp.Or(a.Netns.Path, "-"))
	}
	return t
}

// ReaderOf says what judges packets. Programs show the process that does.
func ReaderOf(r *api.Reader) string {
	switch {
	case r == nil:
		return "-"
	case r.Kind == api.ReaderInspector:
		return "inspector " + r.Name
	case r.Kind == api.ReaderProgram:
		return fmt.Sprintf("program %s (%d)", r.Name, r.PID)
	}
	return string(r.Kind)
}

// QueueNumbers prints consecutive numbers as a range.
func QueueNumbers(queues []api.Queue) string {
	if len(queues) == 0 {
		return "-"
	}
	var ranges []string
	for i := 0; i < len(queues); {
		first, last := queues[i].Number, queues[i].Number
		for i++; i < len(queues) && last < queues[i].Number && queues[i].Number-last == 1; i++ {
			last = queues[i].Number
		}
		r := strconv.Itoa(int(first))
		if last != first {
			r += "-" + strconv.Itoa(int(last))
		}
		ranges = append(ranges, r)
	}
	return strings.Join(ranges, ",")
}
