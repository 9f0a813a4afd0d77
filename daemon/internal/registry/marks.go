// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"fmt"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/marks"
)

// Marks looks into each netns once for others who use the bits of the packet
// mark that the inspector may set. What a pod does with them hurts nobody but
// that pod: marks do not leave their netns.
func (r *Registry) Marks(ctx context.Context) (api.MarkReport, error) {
	report := api.MarkReport{MarkMask: r.options.MarkMask}
	if report.MarkMask == 0 {
		return report, nil
	}
	seen := make(map[*binding]bool)
	for _, a := range r.sorted() {
		if err := ctx.Err(); err != nil {
			return report, err
		}
		if !seen[a.binding] {
			seen[a.binding] = true
			a.addMarks(&report)
		}
	}
	return report, nil
}

// addMarks looks into the attachment's netns, if there still is one.
func (a *attachment) addMarks(report *api.MarkReport) {
	key := a.record.Key
	ns, err := a.binding.netns()
	if err == nil && ns == nil {
		return
	}
	report.Netns++
	var uses []marks.Use
	if err == nil {
		defer ns.Close()
		uses, err = marks.Find(ns, report.MarkMask)
	}
	if err != nil {
		report.Unseen = append(report.Unseen, fmt.Sprintf("%s: %s", key, err))
	}
	for _, u := range uses {
		report.Uses = append(report.Uses, api.MarkUse{
			Key: key, Pod: a.record.Pod, Where: u.Where, Sets: u.Sets, Mask: u.Mask,
		})
	}
}
