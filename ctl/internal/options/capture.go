// SPDX-License-Identifier: Apache-2.0

// Package options has the flags that nsqueuectl and the plugin of kubectl take alike, with
// their limits. What it refuses is the user's to mend: the programs report it as they do
// other wrong usage.
package options

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// CaptureRate is how many packets a second a capture has unless a flag says otherwise. Each
// of them costs processor time in nsqueued and in nsqueuectl, which the data path then
// lacks.
const CaptureRate = 1000

// Capture is what becomes of captured packets.
type Capture struct {
	File     string
	Count    uint64
	Duration time.Duration
	SnapLen  int
	// MaxSize is in MiB.
	MaxSize int64
}

// AddTo gives the command the flags.
func (o *Capture) AddTo(cmd *cobra.Command) {
	const (
		snapLen = 1500 // what comes merged is longer (segmentation offload)
		maxSize = 256
	)
	flags := cmd.Flags()
	flags.StringVarP(&o.File, "write", "w", "", "`FILE` to write, - for standard output (required)")
	flags.Uint64Var(&o.Count, "count", 0, "stop after `N` packets (default: do not stop)")
	flags.DurationVar(&o.Duration, "duration", 0, "stop after `TIME` (default: do not stop)")
	flags.IntVar(&o.SnapLen, "snaplen", snapLen, "at most `N` bytes of each packet")
	flags.Int64Var(&o.MaxSize, "max-size", maxSize, "stop when FILE has `N` MiB, 0: never")
	_ = cmd.MarkFlagRequired("write") // an error would say that there is no such flag
}

// Validate says what is wrong with them.
func (o *Capture) Validate() error {
	switch {
	case o.SnapLen < 1 || o.SnapLen > api.MaxPayload:
		return fmt.Errorf("snaplen %d: want 1 to %d", o.SnapLen, api.MaxPayload)
	case o.MaxSize < 0:
		return fmt.Errorf("max-size %d: want 0 or more", o.MaxSize)
	case o.Duration < 0:
		return fmt.Errorf("duration %s: want 0 or more", o.Duration)
	}
	return nil
}

var errTerminal = errors.New("a capture is no text for a terminal: write it to a file or a pipe")

// CheckOutput says whether standard output may be captured to, which is a terminal where
// it has a width.
func (o *Capture) CheckOutput(width int) error {
	if o.File == "-" && width > 0 {
		return errTerminal
	}
	return nil
}

// IsEnough reports whether so many packets, in a file of so many bytes, are all.
func (o *Capture) IsEnough(packets uint64, size int64) bool {
	return packets == o.Count || o.MaxSize > 0 && size >= o.MaxSize<<20
}

// Open opens the file. Only its owner may read it.
func (o *Capture) Open(stdout io.Writer) (io.WriteCloser, error) {
	if o.File == "-" {
		return nopCloser{stdout}, nil
	}
	f, err := os.OpenFile(o.File, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open capture: %w", err)
	}
	return f, nil
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
