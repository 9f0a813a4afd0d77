// SPDX-License-Identifier: Apache-2.0

// Package budget counts bytes of memory against limits: one of the node, and one of
// each attachment.
package budget

import "sync/atomic"

// Account counts the bytes that its owner holds. Goroutines may share it. A nil
// account has no limit.
type Account struct {
	parent *Account
	limit  int64
	floor  int64
	used   atomic.Int64
}

// New returns an account for at most limit bytes. What it takes, it takes from
// parent, too, unless parent is nil. Up to floor bytes it gets even if parent has
// nothing left, so that owners who take all leave the others that much: parent can
// exceed its own limit by the floors of its children.
func New(limit, floor int64, parent *Account) *Account {
	return &Account{parent: parent, limit: limit, floor: floor}
}

// Take adds n bytes, or returns false and adds nothing.
func (a *Account) Take(n int) bool {
	if a == nil {
		return true
	}
	used := a.used.Add(int64(n))
	if used > a.limit {
		a.used.Add(-int64(n))
		return false
	}
	if a.parent.Take(n) {
		return true
	}
	if used <= a.floor {
		a.parent.force(n)
		return true
	}
	a.used.Add(-int64(n))
	return false
}

// force adds n bytes, whatever the limit is.
func (a *Account) force(n int) {
	for ; a != nil; a = a.parent {
		a.used.Add(int64(n))
	}
}

// Give returns n bytes that Take added.
func (a *Account) Give(n int) {
	a.force(-n)
}

// Used returns how many bytes are taken.
func (a *Account) Used() int64 {
	if a == nil {
		return 0
	}
	return a.used.Load()
}
