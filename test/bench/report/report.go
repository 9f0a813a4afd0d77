// SPDX-License-Identifier: Apache-2.0

// Package report is the benchmark's outcome: its JSON form, its table and its
// verdict on the targets.
package report

import (
	"encoding/json"
	"fmt"
	"os"
)

// The rows, one for each way a packet may go.
const (
	None     = "none"
	GoNFQ    = "go-nfqueue"
	Classic  = "c-classic"
	Vectored = "c-recvmmsg"
	Batch    = "c-recvmmsg-batch"
	Full     = "nsqueued"
	Watched  = "nsqueued-watched"
	Page     = "nsqueued-page"
	Header   = "nsqueued-header"
	Settled  = "nsqueued-settled"
)

// The metrics of a row. Times are in microseconds.
const (
	FloodCPU  = "floodCPUPerPacket"  // of the reader's process, user and system
	FloodRate = "floodPacketsPerSec" // delivered
	FloodSent = "floodSent"
	FloodLost = "floodLost"
	FloodDrop = "floodQueueDropped" // of the lost ones, by a full queue or socket
	PaceCPU   = "paceCPUPerPacket"
	PaceSent  = "paceSent"
	PaceLost  = "paceLost"
	PaceDrop  = "paceQueueDropped"
	TCPRate   = "tcpGbitPerSec"
	TCPCPU    = "tcpCPUShare" // of one processor
	TCPBeside = "tcpBeside"   // to that of a rival, in turns of a second
	PingP50   = "pingP50"
	PingP99   = "pingP99"
	PingCPU   = "pingCPUPerPacket" // two packets a round trip
)

// Report is everything that one run measured. Parts that were not asked for
// are absent.
type Report struct {
	Machine Machine  `json:"machine"`
	Rounds  int      `json:"rounds"`
	Quick   bool     `json:"quick,omitempty"`
	Rows    []Row    `json:"rows,omitempty"`
	Loss    *Loss    `json:"loss,omitempty"`
	Scale   *Scale   `json:"scale,omitempty"`
	Attach  []Timing `json:"attach,omitempty"`
	Rules   *Rules   `json:"rules,omitempty"`
	// Inspectors has inspectors and programs outside nsqueued.
	Inspectors []Row    `json:"inspectors,omitempty"`
	Programs   []Timing `json:"programs,omitempty"`
	Pauses     *Pauses  `json:"pauses,omitempty"`
	Targets    []Target `json:"targets,omitempty"`
}

// Machine is where and with what the run was made.
type Machine struct {
	CPU        string `json:"cpu"`
	Processors int    `json:"processors"`
	MemoryMiB  int    `json:"memoryMiB"`
	Kernel     string `json:"kernel"`
	Go         string `json:"go"`
	Version    string `json:"version"`
	Hook       string `json:"hook"`
	Command    string `json:"command"`
	Date       string `json:"date"`
	LoadBefore string `json:"loadBefore"`
	LoadAfter  string `json:"loadAfter"`
	Took       string `json:"took"`
}

// Row is one contender. Metrics hold one value a round.
type Row struct {
	Name  string `json:"name"`
	Label string `json:"label"`
	// Unavailable says why there are no values.
	Unavailable string            `json:"unavailable,omitempty"`
	Metrics     map[string]Spread `json:"metrics,omitempty"`
}

// Loss is nsqueued with its defaults under a steady load.
type Loss struct {
	Rate         int     `json:"packetsPerSec"`
	Seconds      float64 `json:"seconds"`
	Sent         int64   `json:"sent"`
	Delivered    int64   `json:"delivered"`
	QueueDropped int64   `json:"queueDropped"`
	CPUPerPacket float64 `json:"cpuPerPacket"`
}

// Scale is nsqueued with many pods.
type Scale struct {
	Pods     int     `json:"pods"`
	FewPods  int     `json:"fewPods"`
	Attach   Timing  `json:"attach"`
	Detach   Timing  `json:"detach"`
	Early    float64 `json:"attachEarlyUs"` // around the 10th
	Late     float64 `json:"attachLateUs"`  // the last ten
	IdleFew  Idle    `json:"idleFew"`
	IdleAll  Idle    `json:"idleAll"`
	RSSEmpty int     `json:"rssEmptyKiB"`
	RSSAfter int     `json:"rssAfterKiB"`
	// Left is what detaching and removing everything left behind.
	Left []string `json:"left,omitempty"`
}

// PerPod returns how much memory of the idle daemon a pod takes, in KiB.
func (s *Scale) PerPod() float64 {
	return float64(s.IdleAll.RSSKiB-s.IdleFew.RSSKiB) / float64(max(s.Pods-s.FewPods, 1))
}

// Idle is the daemon while no packet comes.
type Idle struct {
	RSSKiB     int     `json:"rssKiB"`
	CPUPercent float64 `json:"cpuPercent"` // of one processor
}

// Timing is the distribution of how long a call took, in microseconds.
type Timing struct {
	Name string `json:"name"`
	P50  int64  `json:"p50us"`
	P99  int64  `json:"p99us"`
	Max  int64  `json:"maxus"`
}

// Pauses are the longest times in which no packet came to a pod, by what happened.
type Pauses struct {
	Lost  int      `json:"lost"` // packets of all
	Times []Timing `json:"times"`
}

// Names of timings that have a target.
const (
	PauseHandOver = "another supervisor takes over"

	ProgramlessAdd = "plugin ADD, beside pods with programs"
	ProgramlessDel = "plugin DEL, beside pods with programs"
	ProgramAdd     = "plugin ADD, of a pod with a C program"
	ProgramDel     = "plugin DEL, of a pod with a C program"

	PluginAdd = "plugin ADD, whole process, daemon included"
	PluginDel = "plugin DEL, whole process, daemon included"
)

// Row returns the row of that name, nil where it was not measured.
func (r *Report) Row(name string) *Row {
	for i := range r.Rows {
		if r.Rows[i].Name == name && r.Rows[i].Unavailable == "" {
			return &r.Rows[i]
		}
	}
	return nil
}

// Add adds a round's value to a metric.
func (r *Row) Add(metric string, value float64) {
	if r.Metrics == nil {
		r.Metrics = make(map[string]Spread)
	}
	r.Metrics[metric] = SpreadOf(append(r.Metrics[metric].Rounds, value))
}

// Write writes the report to a file.
func (r *Report) Write(path string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// Read reads what Write wrote.
func Read(path string) (*Report, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &Report{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("read report %s: %w", path, err)
	}
	return r, nil
}
