// SPDX-License-Identifier: Apache-2.0

// Package flowtab remembers the flows of one attachment's reader: what is known of
// those that are decided, and the work that is under way for the others.
//
// A flow begins undecided and has a state U. [Table.Decide] ends the state and keeps
// the facts F. A flow that rules have to see to its end keeps its state by
// [Table.Watch].
//
// A table is for one goroutine. Times are durations since any fixed moment, by a
// clock that cannot be set.
package flowtab

import (
	"math"
	"time"

	"github.com/nsqueue/nsqueue/daemon/rules/internal/budget"
)

// MaxFlows is the most that a table can be configured to hold.
const MaxFlows = 1 << 19

// Why says why the table itself ends looking at a flow.
type Why uint8

// The reasons.
const (
	Timeout Why = iota // the flow was undecided for Config.Undecided
	Memory             // others needed its memory or its place
)

// Config says how much a table may hold, and for how long.
type Config[U, F any] struct {
	// Flows is the limit for flows of all kinds: from 1 to [MaxFlows].
	Flows int
	// Undecided is how long a flow may be undecided.
	Undecided time.Duration
	// Idle is how long a decided or watched flow without a packet is remembered,
	// unless [Table.SetIdle] says otherwise. It counts in seconds, up to 18 hours.
	Idle time.Duration
	// Entries is charged for what every flow takes, States for the states U. States
	// can be the account for the buffers of these states, too.
	Entries, States *budget.Account
	// GiveUp has to release what the state of an undecided flow holds, and returns
	// the facts with which the flow is decided.
	GiveUp func(r Ref, u *U, why Why) F
	// Forget is called for each flow before it ends, by whatever call, and has to
	// release what its facts hold, and its state, which is nil for decided flows.
	//
	// Neither function may change the table.
	Forget func(r Ref, u *U, facts *F)
}

// Ref is a flow in a table. It is valid until the flow ends, which it may with each
// Add, Expire and Remove. The zero value is no flow.
type Ref uint32

func (r Ref) number() uint32 { return uint32(r) - 1 }

func refOf(number uint32) Ref { return Ref(number + 1) }

// entry is what each flow takes: 52 bytes and its facts. The hash of the key is not among
// them: it takes less time than a look at memory.
type entry[F any] struct {
	key        Key
	last       uint32 // the second of the last packet
	state      uint32 // its number plus 1, or 0
	idle       uint16 // seconds
	client     Side
	referenced bool // since the hand came by
	facts      F
}

// Table is the flow table. Make it with [New].
type Table[U, F any] struct {
	config  Config[U, F]
	seed    seed
	slots   []uint32
	entries slab[entry[F]]
	states  slab[state[U]]
	lists   [2]list
	hand    uint32 // the next entry that eviction looks at
	sweep   uint32 // the next entry that expiry looks at
}

// New returns an empty table.
func New[U, F any](c Config[U, F]) *Table[U, F] {
	c.Flows = min(max(c.Flows, 1), MaxFlows)
	t := &Table[U, F]{config: c, seed: newSeed()}
	t.entries.account, t.states.account = c.Entries, c.States
	return t
}

// Find returns the flow that a packet belongs to, or 0.
func (t *Table[U, F]) Find(k *Key, now time.Duration) Ref {
	number, ok := t.find(k, t.hash(k))
	if !ok {
		return 0
	}
	t.Touch(refOf(number), now)
	return refOf(number)
}

// Touch notes a packet of the flow, as Find does.
func (t *Table[U, F]) Touch(r Ref, now time.Duration) {
	e := t.entries.at(r.number())
	e.last, e.referenced = seconds(now), true
}

// Add begins an undecided flow, with a zero state and zero facts. A flow with the
// same key ends. At a limit, others give way: the oldest undecided flow where such
// flows are most, and else a decided one that had no packet lately. Add returns false
// if there is no memory even so.
func (t *Table[U, F]) Add(k *Key, client Side, now time.Duration) (Ref, bool) {
	hash := t.hash(k)
	if old, ok := t.find(k, hash); ok {
		t.Remove(refOf(old))
	}
	number, ok := t.addEntry()
	if !ok {
		return 0, false
	}
	*t.entries.at(number) = entry[F]{
		key: *k, last: seconds(now), idle: idleSeconds(t.config.Idle), client: client,
	}
	if !t.index(hash, number) {
		t.entries.remove(number)
		return 0, false
	}
	r := refOf(number)
	if !t.addState(r, now) {
		t.Remove(r)
		return 0, false
	}
	return r, true
}

// addEntry returns a place for an entry.
func (t *Table[U, F]) addEntry() (uint32, bool) {
	if t.entries.count >= t.config.Flows {
		t.evict()
	}
	if number, ok := t.entries.add(); ok {
		return number, true
	}
	t.evict()
	return t.entries.add()
}

// Key returns the flow's key.
func (t *Table[U, F]) Key(r Ref) *Key { return &t.entries.at(r.number()).key }

// Client returns the side that opened the flow.
func (t *Table[U, F]) Client(r Ref) Side { return t.entries.at(r.number()).client }

// SetClient changes which side that is.
func (t *Table[U, F]) SetClient(r Ref, s Side) { t.entries.at(r.number()).client = s }

// Facts returns what is known of the flow. It may be changed in place.
func (t *Table[U, F]) Facts(r Ref) *F { return &t.entries.at(r.number()).facts }

// State returns the state of an undecided or watched flow, and nil for others.
func (t *Table[U, F]) State(r Ref) *U {
	e := t.entries.at(r.number())
	if e.state == 0 {
		return nil
	}
	return &t.states.at(e.state - 1).user
}

// SetIdle changes how long the flow is remembered without a packet: for less, say,
// when its end was seen. A flow should not end at once then: what looks like its end
// may be a segment that the other side does not believe.
func (t *Table[U, F]) SetIdle(r Ref, d time.Duration) {
	t.entries.at(r.number()).idle = idleSeconds(d)
}

// Decide keeps the facts of a flow. The caller has released what its state holds.
func (t *Table[U, F]) Decide(r Ref, facts F) {
	e := t.entries.at(r.number())
	t.dropState(e)
	e.facts = facts
}

// Remove ends a flow.
func (t *Table[U, F]) Remove(r Ref) {
	e := t.entries.at(r.number())
	t.config.Forget(r, t.State(r), &e.facts)
	t.dropState(e)
	t.unindex(t.hash(&e.key), r.number())
	t.entries.remove(r.number())
}

// Next returns the flow behind r in an order that does not change, or the first for
// 0, and 0 at the end. It passes each flow that exists all the while, so that a reload
// may go through the table in portions. Nothing happens if r has ended.
func (t *Table[U, F]) Next(r Ref) Ref {
	number, ok := t.entries.next(uint32(r))
	if !ok {
		return 0
	}
	return refOf(number)
}

// Len returns how many flows there are, and how many of them are undecided.
func (t *Table[U, F]) Len() (flows, undecided int) {
	return t.entries.count, t.lists[undecidedFlows].count
}

// Close ends all flows and gives all memory back.
func (t *Table[U, F]) Close() {
	for r := t.Next(0); r != 0; r = t.Next(r) {
		t.Remove(r)
	}
	t.entries.trim(0)
	t.states.trim(0)
	t.entries.account.Give(len(t.slots) * slotSize)
	t.slots = nil
}

func seconds(d time.Duration) uint32 { return uint32(d / time.Second) }

func idleSeconds(d time.Duration) uint16 {
	return uint16(min(max(d/time.Second, 0), math.MaxUint16))
}
