// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"reflect"
)

// accepted finds out which numbers a field may have while the others have their
// defaults: zero, where it is one, and those around the default. It is empty where
// the field is no number.
func accepted(field reflect.Value, validate func() error) string {
	set, highest := setter(field)
	if set == nil {
		return ""
	}
	before := asInt(field)
	defer set(before)
	valid := func(n int64) bool {
		set(n)
		return validate() == nil
	}
	text := func(n int64) string {
		set(n)
		return number(field)
	}
	zero := valid(0)
	first, last := before, furthest(before, highest, valid)
	if before > 0 {
		first = furthest(before, 1, valid)
	}
	s := ""
	switch {
	case zero && first > 1:
		s = text(0) + ", "
	case zero:
		first = 0
	}
	if last == math.MaxInt64 {
		return s + "from " + text(first)
	}
	return s + text(first) + " to " + text(last)
}

// setter returns what sets the field, and the highest number of its type; nil
// where it is no number.
func setter(field reflect.Value) (set func(int64), highest int64) {
	switch {
	case field.CanInt():
		return field.SetInt, math.MaxInt64
	case field.CanUint():
		return func(n int64) { field.SetUint(uint64(n)) }, 1<<field.Type().Bits() - 1
	}
	return nil, 0
}

func asInt(v reflect.Value) int64 {
	if v.CanUint() {
		return int64(v.Uint())
	}
	return v.Int()
}

// furthest returns the last valid number on the way from one that is valid to
// the end.
func furthest(from, end int64, valid func(int64) bool) int64 {
	if valid(end) {
		return end
	}
	for bad := end; ; {
		middle := from + (bad-from)/2
		switch {
		case middle == from:
			return from
		case valid(middle):
			from = middle
		default:
			bad = middle
		}
	}
}
