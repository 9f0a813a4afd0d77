// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"maps"
	"slices"
)

// Bounds of an attach request's annotations.
const (
	// MaxAnnotations is how many there may be.
	MaxAnnotations = 64
	// MaxAnnotationBytes is how many bytes their names and values may have in all.
	MaxAnnotationBytes = 16 << 10
)

// LimitAnnotations returns as many of the annotations as an attach request may have,
// in the order of their names, and a warning for each that it leaves out. It does not
// change its argument.
func LimitAnnotations(all map[string]string) (kept map[string]string, warnings []string) {
	room := MaxAnnotationBytes
	for _, name := range slices.Sorted(maps.Keys(all)) {
		value := all[name]
		if len(kept) == MaxAnnotations || len(name)+len(value) > room {
			warnings = append(warnings, fmt.Sprintf("annotation %.60q not passed on: want at most "+
				"%d annotations of %d bytes in all", name, MaxAnnotations, MaxAnnotationBytes))
			continue
		}
		if kept == nil {
			kept = make(map[string]string)
		}
		kept[name] = value
		room -= len(name) + len(value)
	}
	return kept, warnings
}

// Limit cuts the request's annotations and warnings to their bounds. What it leaves
// out of the annotations becomes warnings. The maps and lists of the request stay as
// they are.
func (r *AttachRequest) Limit() {
	kept, beyond := LimitAnnotations(r.Annotations)
	r.Annotations = kept
	r.Warnings = LimitWarnings(slices.Concat(r.Warnings, beyond))
}
