// SPDX-License-Identifier: Apache-2.0

package api

// AdoptRequest asks to attach the pods that are older than the daemon.
type AdoptRequest struct {
	// DryRun only says what would be attached.
	DryRun bool `json:"dryRun"`
}

// AdoptOutcome is what became of a pod, or of a netns, that a scan found.
type AdoptOutcome string

// The outcomes.
const (
	// Adopted: attached now, with OriginAdopted.
	Adopted AdoptOutcome = "adopted"
	// WouldAdopt: a dry run stopped short of attaching it.
	WouldAdopt AdoptOutcome = "would adopt"
	// AlreadyAttached: its key was attached before, by whatever way.
	AlreadyAttached AdoptOutcome = "already attached"
	// AdoptSkipped: it is not to be inspected, or it is not certain which netns
	// is its own.
	AdoptSkipped AdoptOutcome = "skipped"
	// AdoptFailed: it should have been attached and could not be.
	AdoptFailed AdoptOutcome = "failed"
	// UnknownNetns: no runtime has kept a record of this netns. It can be
	// attached by hand.
	UnknownNetns AdoptOutcome = "unknown"
)

// AdoptResult is one pod, or one netns, that a scan found. Its key is empty
// where nothing says whose netns it is.
type AdoptResult struct {
	Key
	Pod     Pod          `json:"pod"`
	Network string       `json:"network,omitempty"`
	Netns   Netns        `json:"netns"`
	Outcome AdoptOutcome `json:"outcome"`
	// Reason says why it was neither adopted nor attached already.
	Reason string `json:"reason,omitempty"`
}

// AdoptResults is the answer to an adopt call, ordered by key.
type AdoptResults struct {
	Results []AdoptResult `json:"results"`
	// Missing says what the daemon could not look at: pods may have stayed uninspected.
	Missing []string `json:"missing,omitempty"`
}

// Count returns how many results have the outcome.
func (r *AdoptResults) Count(o AdoptOutcome) int {
	n := 0
	for i := range r.Results {
		if r.Results[i].Outcome == o {
			n++
		}
	}
	return n
}
