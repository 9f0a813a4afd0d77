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
			ReaderOf(a), cmp.Or(a.Network, "-"), cmp.Or(string(a.Origin), "-"),
			strconv.FormatUint(a.Netns.Cookie, 10), cmp.Or(a.Netns.Path, "-"))
	}
	return t
}

// ReaderOf says what judges packets. Programs of the pod show the process that does.
func ReaderOf(a *api.Attachment) string {
	var readers []string
	switch {
	case a.Reader == nil:
		return "-"
	case a.Reader.Kind == api.ReaderInspector:
		readers = append(readers, "inspector "+a.Reader.Name)
	case a.Reader.Kind != api.ReaderProgram:
		readers = append(readers, string(a.Reader.Kind))
	case len(a.Programs) == 0:
		readers = append(readers, "program "+a.Reader.Name+" (away)")
	}
	for _, p := range a.Programs {
		process := "away"
		switch {
		case p.PID != 0:
			process = strconv.Itoa(p.PID)
		case p.Ready: // an inspector that reads queues by itself, in another PID namespace
			process = "there"
		}
		readers = append(readers, fmt.Sprintf("program %s (%s)", p.Name, process))
	}
	return strings.Join(readers, ", ")
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
