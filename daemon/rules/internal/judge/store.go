// SPDX-License-Identifier: Apache-2.0

package judge

import "github.com/nsqueue/nsqueue/daemon/rules/internal/budget"

// maxIdle is how many values a store keeps that no flow has any more: the next flow is
// often of the same client to the same server.
const maxIdle = 64

// store has values that many flows share. Flows know them by their numbers; 0 is none.
type store[T any] struct {
	account *budget.Account
	numbers map[string]uint32
	items   []item[T] // that of number 1 is the first
	free    []uint32
	idle    []uint32 // in the order in which they were given back
}

type item[T any] struct {
	key    string
	value  T
	cost   int
	refs   int
	queued bool // in idle
}

func newStore[T any](account *budget.Account) store[T] {
	return store[T]{account: account, numbers: make(map[string]uint32)}
}

// get returns a value, or nil for number 0.
func (s *store[T]) get(number uint32) *T {
	if number == 0 {
		return nil
	}
	return &s.items[number-1].value
}

// find returns the number of the value with a key, or 0.
func (s *store[T]) find(key []byte) uint32 { return s.numbers[string(key)] }

// add takes a value and returns its number, or 0 if there is no memory. The value is idle.
func (s *store[T]) add(key string, value T, cost int) uint32 {
	const overhead = 128
	cost += len(key) + overhead
	for !s.account.Take(cost) {
		if len(s.idle) == 0 {
			return 0
		}
		s.forget()
	}
	if len(s.free) == 0 {
		s.items = append(s.items, item[T]{})
		s.free = append(s.free, uint32(len(s.items)))
	}
	number := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	s.items[number-1] = item[T]{key: key, value: value, cost: cost}
	s.numbers[key] = number
	s.rest(number)
	return number
}

// hold says that one more flow has a value.
func (s *store[T]) hold(number uint32) {
	if number != 0 {
		s.items[number-1].refs++
	}
}

// release says that a flow has a value no more.
func (s *store[T]) release(number uint32) {
	if number == 0 {
		return
	}
	i := &s.items[number-1]
	if i.refs--; i.refs == 0 && !i.queued {
		s.rest(number)
	}
}

// rest makes a value idle, and forgets another one where too many are.
func (s *store[T]) rest(number uint32) {
	s.items[number-1].queued = true
	if len(s.idle) == maxIdle {
		s.forget()
	}
	s.idle = append(s.idle, number)
}

// forget takes the value out of idle that is there for longest, and forgets it if no flow
// has it again.
func (s *store[T]) forget() {
	number := s.idle[0]
	s.idle = s.idle[:copy(s.idle, s.idle[1:])]
	i := &s.items[number-1]
	i.queued = false
	if i.refs > 0 {
		return
	}
	s.account.Give(i.cost)
	delete(s.numbers, i.key)
	*i = item[T]{}
	s.free = append(s.free, number)
}

// close gives all memory back.
func (s *store[T]) close() {
	for i := range s.items {
		s.account.Give(s.items[i].cost)
	}
	*s = newStore[T](s.account)
}
