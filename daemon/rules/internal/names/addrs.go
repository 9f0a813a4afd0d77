// SPDX-License-Identifier: Apache-2.0

package names

import (
	"net/netip"
	"strings"
	"time"
	"unsafe"

	"github.com/nsqueue/nsqueue/daemon/rules/internal/budget"
)

// binding says that a chain of names leads to an address. Numbers of bindings are
// indexes; 0 is none.
type binding struct {
	addr       netip.Addr
	chain      *chain
	until      time.Duration
	prev, next uint32 // in the order of use
	same       uint32 // another one of the same address
}

// chain is a name, and those that its CNAMEs lead to.
type chain struct {
	key   string
	names []string
	refs  int
}

// What is charged for a binding, and for a chain besides its names. Both are entries of
// a map, too.
const (
	bindingSize = int(unsafe.Sizeof(binding{})) + 64
	chainSize   = int(unsafe.Sizeof(chain{})) + 64
	nameSize    = int(unsafe.Sizeof(""))
)

// addrs has what addresses are called. Those used least lately give way.
type addrs struct {
	account     *budget.Account
	heads       map[netip.Addr]uint32
	chains      map[string]*chain
	bindings    []binding
	free        []uint32
	first, last uint32
	count       int
}

func newAddrs(account *budget.Account) addrs {
	return addrs{
		account: account, bindings: make([]binding, 1),
		heads: make(map[netip.Addr]uint32), chains: make(map[string]*chain),
	}
}

func (a *addrs) at(i uint32) *binding { return &a.bindings[i] }

// add notes that a chain leads to addresses. Where there is no memory for all, it leads
// to the first.
func (a *addrs) add(key []byte, list []netip.Addr, until, now time.Duration) {
	for a.last != 0 && a.at(a.last).until < now {
		a.remove(a.last)
	}
	c := a.hold(key)
	if c == nil {
		return
	}
	for n, addr := range list {
		if n == MaxAddrs || !a.bind(plain(addr), c, until) {
			break
		}
	}
	a.release(c)
}

// hold returns the chain that has a key, which the caller has to release.
func (a *addrs) hold(key []byte) *chain {
	c := a.chains[string(key)]
	if c == nil {
		names := strings.Count(string(key), "\x00")
		if !a.take(chainSize + len(key) + names*nameSize) {
			return nil
		}
		c = &chain{key: string(key)}
		c.names = strings.Split(c.key[:len(c.key)-1], "\x00")
		a.chains[c.key] = c
	}
	c.refs++
	return c
}

func (a *addrs) release(c *chain) {
	if c.refs--; c.refs == 0 {
		a.account.Give(chainSize + len(c.key) + len(c.names)*nameSize)
		delete(a.chains, c.key)
	}
}

// take charges n bytes. Others give way.
func (a *addrs) take(n int) bool {
	for !a.account.Take(n) {
		if a.count == 0 {
			return false
		}
		a.remove(a.last)
	}
	return true
}

// bind notes that a chain leads to an address.
func (a *addrs) bind(addr netip.Addr, c *chain, until time.Duration) bool {
	oldest, n := uint32(0), 0
	for i := a.heads[addr]; i != 0; i = a.at(i).same {
		b := a.at(i)
		if b.chain == c {
			b.until = max(b.until, until)
			a.pull(i)
			a.push(i)
			return true
		}
		if n++; oldest == 0 || b.until < a.at(oldest).until {
			oldest = i
		}
	}
	switch {
	case n >= chainsPerAddr:
		a.remove(oldest)
	case a.count >= MaxAddrs:
		a.remove(a.last)
	}
	if !a.take(bindingSize) {
		return false
	}
	i := a.place()
	*a.at(i) = binding{addr: addr, chain: c, until: until, same: a.heads[addr]}
	a.heads[addr] = i
	c.refs++
	a.count++
	a.push(i)
	return true
}

// place returns the number of a binding that is free.
func (a *addrs) place() uint32 {
	if n := len(a.free); n > 0 {
		i := a.free[n-1]
		a.free = a.free[:n-1]
		return i
	}
	a.bindings = append(a.bindings, binding{})
	return uint32(len(a.bindings) - 1)
}

func (a *addrs) remove(i uint32) {
	b := a.at(i)
	a.pull(i)
	if head := a.heads[b.addr]; head != i {
		for a.at(head).same != i {
			head = a.at(head).same
		}
		a.at(head).same = b.same
	} else if b.same != 0 {
		a.heads[b.addr] = b.same
	} else {
		delete(a.heads, b.addr)
	}
	a.release(b.chain)
	*b = binding{}
	a.free = append(a.free, i)
	a.count--
	a.account.Give(bindingSize)
}

func (a *addrs) expire(now time.Duration) {
	for i := range a.bindings {
		if b := &a.bindings[i]; b.chain != nil && b.until < now {
			a.remove(uint32(i))
		}
	}
	if a.count == 0 && len(a.bindings) > 1 {
		a.shrink()
	}
}

// shrink gives back the room of bindings that are all free.
func (a *addrs) shrink() { a.free, a.bindings = nil, make([]binding, 1) }

// push makes a binding the one that was used last.
func (a *addrs) push(i uint32) {
	b := a.at(i)
	b.prev, b.next = 0, a.first
	if a.first == 0 {
		a.last = i
	} else {
		a.at(a.first).prev = i
	}
	a.first = i
}

// pull takes a binding out of the order of use.
func (a *addrs) pull(i uint32) {
	b := a.at(i)
	if b.prev == 0 {
		a.first = b.next
	} else {
		a.at(b.prev).next = b.next
	}
	if b.next == 0 {
		a.last = b.prev
	} else {
		a.at(b.next).prev = b.prev
	}
}
