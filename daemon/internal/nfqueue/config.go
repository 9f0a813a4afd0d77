// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"fmt"

	gonfqueue "github.com/florianl/go-nfqueue/v2"
)

// Defaults of a queue.
const (
	DefaultNumber = 80
	// DefaultLength is how many packets may wait, the kernel's default is 1024.
	DefaultLength = 4096
	// MaxLength is where the kernel's table of waiting packets ends
	// (NFQNL_HASH_MAX in nfnetlink_queue.c).
	MaxLength = 65536
	// DefaultReceiveBuffer holds 3,640 packets of 1,400 bytes, at the
	// 2,304 bytes each of them is charged.
	DefaultReceiveBuffer = 8 << 20
	// MinReceiveBuffer holds a merged packet.
	MinReceiveBuffer = 1 << 16
	// MaxCopyRange is the most that the kernel copies of a packet.
	MaxCopyRange = 0xffff - attrLen
)

// Config is how a queue is bound.
type Config struct {
	// Number of the queue in its netns.
	Number uint16
	// Length is how many packets may wait for a verdict.
	Length uint32
	// CopyRange is how many bytes of each packet are copied.
	CopyRange uint32
	// ReceiveBuffer of the socket in bytes, as the kernel charges them.
	ReceiveBuffer int
	// Modifies is for an inspector that replaces packets: they come unmerged.
	Modifies bool
	// Defers is for an inspector that answers some packets later.
	Defers bool
	// SocketUID has the kernel tell whose socket a packet comes from.
	SocketUID bool
	// FailOpen accepts packets while the queue is full, instead of dropping.
	FailOpen bool
}

// Validate reports the first setting that the kernel would not honour.
func (c *Config) Validate() error {
	switch {
	case c.Length == 0 || c.Length > MaxLength:
		return fmt.Errorf("queue length %d: want 1 to %d", c.Length, MaxLength)
	case c.CopyRange == 0 || c.CopyRange > MaxCopyRange:
		return fmt.Errorf("copy range %d: want 1 to %d", c.CopyRange, MaxCopyRange)
	case c.ReceiveBuffer < MinReceiveBuffer:
		return fmt.Errorf("receive buffer %d: want at least %d", c.ReceiveBuffer,
			MinReceiveBuffer)
	}
	return nil
}

func (c *Config) knownFlags() uint32 {
	return gonfqueue.NfQaCfgFlagFailOpen | gonfqueue.NfQaCfgFlagGSO |
		gonfqueue.NfQaCfgFlagUIDGid
}

func (c *Config) flags() uint32 {
	var flags uint32
	if !c.Modifies {
		flags |= gonfqueue.NfQaCfgFlagGSO
	}
	if c.FailOpen {
		flags |= gonfqueue.NfQaCfgFlagFailOpen
	}
	if c.SocketUID {
		flags |= gonfqueue.NfQaCfgFlagUIDGid
	}
	return flags
}
