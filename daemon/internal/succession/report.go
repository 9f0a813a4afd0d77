// SPDX-License-Identifier: Apache-2.0

package succession

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nsqueue/nsqueue/internal/atomicfile"
)

// Role is what a supervisor is among those of its directory.
type Role string

// The roles. Of a directory's supervisors, one at most is Active or Giving.
const (
	// Fresh: it looks for the active one.
	Fresh Role = "fresh"
	// Taking over from the active one.
	Taking Role = "taking"
	// Active: its daemon serves.
	Active Role = "active"
	// Giving to another one.
	Giving Role = "giving"
	// Standby: it has given, and is there to take back.
	Standby Role = "standby"
)

func (r Role) valid() bool {
	return slices.Contains([]Role{Fresh, Taking, Active, Giving, Standby}, r)
}

// Report is what a supervisor says of itself, to its daemon, to probes, and to itself
// after a restart of its container.
type Report struct {
	Role Role `json:"role"`
	// Since when it has the role.
	Since time.Time `json:"since"`
	Identity

	// Peers are those that are connected: of an active one its standbys, of a standby
	// the active one.
	Peers []PeerReport `json:"peers,omitempty"`
	// TakeOvers counts those of this supervisor from another one, since it was started.
	TakeOvers int `json:"takeOvers,omitempty"`
	// Refusals counts those that wanted to take over and did not, since this
	// supervisor became active.
	Refusals int `json:"refusals,omitempty"`
	// LastRefusal is absent where there was none.
	LastRefusal *Refusal `json:"lastRefusal,omitempty"`
	// Ending: it was told to end, and waits for a successor.
	Ending bool `json:"ending,omitempty"`
}

// PeerReport is what is known of another supervisor.
type PeerReport struct {
	Role  Role      `json:"role"`
	Since time.Time `json:"since"`
	Identity
}

// Refusal is a take-over that did not come about.
type Refusal struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
	Identity
}

// reportName is the file's name in the supervisor's own directory.
const reportName = "role.json"

// maxReport is the longest report that is read.
const maxReport = 64 << 10

// ReportPath is where the supervisor with this directory of its own reports.
func ReportPath(runtimeDir string) string { return filepath.Join(runtimeDir, reportName) }

// Write replaces the file.
func (r *Report) Write(path string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Replace(path, append(b, '\n'), &atomicfile.Options{Mode: 0o644})
}

// ReadReport reads the file.
func ReadReport(path string) (Report, error) {
	f, err := os.Open(path)
	if err != nil {
		return Report{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxReport))
	if err != nil {
		return Report{}, err
	}
	r, err := parseReport(b)
	if err != nil {
		return Report{}, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

func parseReport(b []byte) (Report, error) {
	var r Report
	if err := json.Unmarshal(b, &r); err != nil {
		return Report{}, err
	}
	if !r.Role.valid() {
		return Report{}, fmt.Errorf("role %.20q is unknown", string(r.Role))
	}
	return r, nil
}

// String is for comparing reports.
func (r *Report) String() string {
	b, err := json.Marshal(r)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
