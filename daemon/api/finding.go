// SPDX-License-Identifier: Apache-2.0

package api

// FindingResult is how a check has ended.
type FindingResult string

// The results. Only FindingWrong means that something must be done.
const (
	FindingOK      FindingResult = "ok"
	FindingWarning FindingResult = "warning"
	FindingWrong   FindingResult = "wrong"
	FindingUnknown FindingResult = "unknown" // the check could not be made
)

// Finding is what a check has found.
type Finding struct {
	Check  string        `json:"check"`
	Result FindingResult `json:"result"`
	// Where is the file, process or attachment that the finding is about.
	Where  string `json:"where,omitempty"`
	What   string `json:"what"`
	Remedy string `json:"remedy,omitempty"`
}
