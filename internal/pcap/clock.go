// SPDX-License-Identifier: Apache-2.0

package pcap

import (
	"math/big"
	"time"
)

// microseconds is the unit of time unless an interface has another.
const microseconds = 6

// clock is how an interface counts time. The unit is a negative power of 10, or of 2 where
// its highest bit is set. The offset is in seconds.
type clock struct {
	unit   byte
	offset int64
}

const powerOfTwo = 0x80

// known reports whether a second has no more units than 64 bits can count.
func (c clock) known() bool {
	if c.unit&powerOfTwo != 0 {
		return c.unit&^powerOfTwo < 64
	}
	return c.unit < 20
}

// perSecond returns how many units a second has.
func (c clock) perSecond() uint64 {
	if c.unit&powerOfTwo != 0 {
		return 1 << (c.unit &^ powerOfTwo)
	}
	n := uint64(1)
	for range c.unit {
		n *= 10
	}
	return n
}

func (c clock) time(stamp uint64) time.Time {
	per := c.perSecond()
	seconds, rest := stamp/per, stamp%per
	return time.Unix(int64(seconds)+c.offset, nanoseconds(rest, per)).UTC()
}

// nanoseconds returns a part of a second.
func nanoseconds(units, per uint64) int64 {
	if units <= 1<<63/uint64(time.Second) {
		return int64(units * uint64(time.Second) / per)
	}
	var n big.Int
	n.Mul(n.SetUint64(units), big.NewInt(int64(time.Second)))
	return n.Quo(&n, new(big.Int).SetUint64(per)).Int64()
}
