// SPDX-License-Identifier: Apache-2.0

// Package names remembers which names a pod has resolved to which addresses.
//
// Only an answer to a question that the pod was seen to ask counts. What it says is
// remembered for as long as it allows, within bounds; a connection keeps the names that
// it began with, which is up to the caller.
//
// A table is for one goroutine. Times are durations since any fixed moment, by a
// clock that cannot be set.
package names

import (
	"hash/maphash"
	"net/netip"
	"slices"
	"time"

	"github.com/nsqueue/nsqueue/daemon/rules/internal/budget"
)

// How long a table remembers what an answer says, whatever its TTL is.
const (
	MinTTL = 30 * time.Second
	MaxTTL = time.Hour
)

// What a table has at most, even if there is memory for more.
const (
	MaxQuestions  = 256  // that wait for an answer
	MaxAddrs      = 8192 // one counts once for each of its chains of names
	MaxNames      = 32   // of an answer
	chainsPerAddr = 32
)

// patience is how long a question waits for its answer.
const patience = 15 * time.Second

// Config says whom a table believes, and what it may hold.
type Config struct {
	// Resolvers are those whose answers count. Nil: everybody's do.
	Resolvers []netip.Addr
	// Account is charged for what the table holds.
	Account *budget.Account
}

// Question is what an answer has to repeat: all of it.
type Question struct {
	ID         uint16
	Protocol   uint8 // of IP
	ClientPort uint16
	Server     netip.AddrPort
	// Name is in lower case, without the final dot and without bytes that are zero.
	Name  []byte
	Type  uint16
	Class uint16
}

// Answer is what a resolver says.
type Answer struct {
	// Names has the name that was asked for, and those that its CNAMEs lead to, in the
	// same form.
	Names [][]byte
	Addrs []netip.Addr
	// TTL is in seconds.
	TTL uint32
}

// Table has the names of one pod. Make it with [New].
type Table struct {
	config    Config
	seed      maphash.Seed
	questions []question
	oldest    int // the question that gives way next
	addrs     addrs
	key       []byte
	stats     Stats
}

// Stats count what a table was told.
type Stats struct {
	// Asked are questions to resolvers, and Answers those answers that named an address.
	Asked, Answers uint64
	// Others are questions to servers whose answers do not count, and Other is the last
	// of these.
	Others uint64
	Other  netip.Addr
}

// Add adds up what two tables were told.
func (s *Stats) Add(o Stats) {
	s.Asked += o.Asked
	s.Answers += o.Answers
	s.Others += o.Others
	if o.Other.IsValid() {
		s.Other = o.Other
	}
}

// New returns an empty table.
func New(c Config) *Table {
	return &Table{config: c, seed: maphash.MakeSeed(), addrs: newAddrs(c.Account)}
}

// Asked notes that the pod asks a question.
func (t *Table) Asked(q *Question, now time.Duration) {
	if !t.trusts(q.Server.Addr()) {
		t.stats.Others++
		t.stats.Other = plain(q.Server.Addr())
		return
	}
	t.stats.Asked++
	asked := t.digest(q)
	asked.until = now + patience
	if i := t.find(&asked); i >= 0 {
		t.questions[i] = asked
		return
	}
	if len(t.questions) < MaxQuestions && t.config.Account.Take(questionSize) {
		t.questions = append(t.questions, asked)
		return
	}
	if len(t.questions) > 0 {
		t.oldest %= len(t.questions)
		t.questions[t.oldest] = asked
		t.oldest++
	}
}

// Answered takes an answer. It returns false, and believes nothing, if nobody has asked
// for it, or if it was answered before.
func (t *Table) Answered(q *Question, a *Answer, now time.Duration) bool {
	asked := t.digest(q)
	i := t.find(&asked)
	if i < 0 || t.questions[i].until < now {
		return false
	}
	t.questions[i] = question{}
	if len(a.Names) == 0 || len(a.Addrs) == 0 || string(a.Names[0]) != string(q.Name) {
		return true
	}
	t.stats.Answers++
	until := now + min(max(time.Duration(a.TTL)*time.Second, MinTTL), MaxTTL)
	t.addrs.add(t.chain(a.Names), a.Addrs, until, now)
	return true
}

// Lookup appends the names that the pod has resolved to an address, each once. They
// remain valid whatever the table forgets.
func (t *Table) Lookup(addr netip.Addr, now time.Duration, names []string) []string {
	a := &t.addrs
	for i := a.heads[plain(addr)]; i != 0; i = a.at(i).same {
		b := a.at(i)
		if b.until < now {
			continue
		}
		a.pull(i)
		a.push(i)
		for _, name := range b.chain.names {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// Expire forgets what is too old. Without it, that is forgotten when others need room.
func (t *Table) Expire(now time.Duration) { t.addrs.expire(now) }

// Stats returns what the table was told so far.
func (t *Table) Stats() Stats { return t.stats }

// Len returns how many addresses the table has, each once for each of its chains.
func (t *Table) Len() int { return t.addrs.count }

// Close gives all memory back.
func (t *Table) Close() {
	for t.addrs.count > 0 {
		t.addrs.remove(t.addrs.last)
	}
	t.config.Account.Give(len(t.questions) * questionSize)
	t.questions, t.oldest = nil, 0
	t.addrs.shrink()
}

// chain returns the key of a chain of names.
func (t *Table) chain(names [][]byte) []byte {
	t.key = t.key[:0]
	for _, name := range names[:min(len(names), MaxNames)] {
		t.key = append(append(t.key, name...), 0)
	}
	return t.key
}

// plain is an address as tables compare it.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
