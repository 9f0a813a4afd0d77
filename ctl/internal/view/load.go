// SPDX-License-Identifier: Apache-2.0

package view

import (
	"cmp"
	"fmt"
	"strconv"
	"time"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/daemon/api"
)

// Load is what one attachment did in an interval.
type Load struct {
	api.Key
	Pod              api.Pod `json:"pod"`
	PacketsPerSecond float64 `json:"packetsPerSecond"`
	BitsPerSecond    float64 `json:"bitsPerSecond"`
	DroppedPerSecond float64 `json:"droppedPerSecond"`
	SettledPerSecond float64 `json:"settledPerSecond"`
	// InspectMicroseconds is the time of the inspector per packet.
	InspectMicroseconds float64 `json:"inspectMicroseconds"`
	// Waiting now, and KernelDropped so far, in all queues.
	Waiting       uint64 `json:"waiting"`
	KernelDropped uint64 `json:"kernelDropped"`
}

// Loads are those of an interval.
type Loads struct {
	Time        time.Time `json:"time"`
	Seconds     float64   `json:"seconds"`
	Attachments []Load    `json:"attachments"`
}

// LoadColumns are those that CompareLoads takes, the default first.
func LoadColumns() []string {
	return []string{"packets", "bits", "drops", "settled", "time", "pod"}
}

// CompareLoads returns the order of the rows, the largest first.
func CompareLoads(by string) (func(a, b Load) int, error) {
	values := map[string]func(*Load) float64{
		"packets": func(l *Load) float64 { return l.PacketsPerSecond },
		"bits":    func(l *Load) float64 { return l.BitsPerSecond },
		"drops":   func(l *Load) float64 { return l.DroppedPerSecond },
		"settled": func(l *Load) float64 { return l.SettledPerSecond },
		"time":    func(l *Load) float64 { return l.InspectMicroseconds },
		"pod":     func(*Load) float64 { return 0 },
	}
	value := values[by]
	if value == nil {
		return nil, fmt.Errorf("sort by %q: want packets, bits, drops, settled, time or pod", by)
	}
	return func(a, b Load) int {
		return cmp.Or(cmp.Compare(value(&b), value(&a)), cmp.Compare(a.Name(), b.Name()))
	}, nil
}

// Name is that of the pod, or of the container if it has no pod.
func (l *Load) Name() string {
	if l.Pod.Name == "" {
		return ShortID(l.ContainerID) + "/" + l.Ifname
	}
	return l.Pod.String()
}

// LoadTable is the table of loads, in the order that they have.
func LoadTable(loads []Load) *text.Table {
	t := &text.Table{
		Head: []string{
			"POD", "PACKETS/S", "BIT/S", "DROP/S", "SETTLE/S", "US/PKT", "WAITING", "LOST",
			"CONTAINER ID", "IFNAME",
		},
		Elastic: "POD", Spare: []string{"SETTLE/S", "US/PKT"},
		Extra: []string{"CONTAINER ID", "IFNAME"},
	}
	for i := range loads {
		l := &loads[i]
		t.Add(l.Name(), perSecond(l.PacketsPerSecond), scaled(l.BitsPerSecond),
			perSecond(l.DroppedPerSecond), perSecond(l.SettledPerSecond),
			perSecond(l.InspectMicroseconds), strconv.FormatUint(l.Waiting, 10),
			strconv.FormatUint(l.KernelDropped, 10), l.ContainerID, l.Ifname)
	}
	return t
}

// perSecond prints a rate with one decimal if it is below 100.
func perSecond(v float64) string {
	if v == 0 || v >= 100 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'f', 1, 64)
}

// scaled prints a rate with three digits and the letter of its unit, such as
// 9.41G.
func scaled(v float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if v >= unit.size*0.9995 { // what is rounded to it
			return strconv.FormatFloat(v/unit.size, 'g', 3, 64) + unit.name
		}
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}
