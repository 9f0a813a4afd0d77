// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"sync"

	"github.com/nsqueue/nsqueue/daemon/rules/internal/budget"
)

// Buffers have one of six sizes, each twice the one before.
const (
	smallest = 512
	classes  = 6
	largest  = smallest << (classes - 1)
)

// idlePerClass bounds the buffers of a size that a pool keeps: 504 KiB in all.
const idlePerClass = 16

// Pool has the buffers of a node. Goroutines may share it. The zero value is ready.
type Pool struct {
	mu   sync.Mutex
	idle [classes][][]byte
}

// Memory is where the streams of an attachment get buffers from. Account is charged
// for the buffers in use.
type Memory struct {
	Pool    *Pool
	Account *budget.Account
}

// get returns a buffer of at least n bytes, or nil.
func (m *Memory) get(n int) []byte {
	class := 0
	for smallest<<class < n {
		class++
	}
	if class >= classes || !m.Account.Take(smallest<<class) {
		return nil
	}
	if b := m.Pool.get(class); b != nil {
		return b
	}
	return make([]byte, smallest<<class)
}

// put takes back a buffer of get.
func (m *Memory) put(b []byte) {
	m.Account.Give(len(b))
	class := 0
	for smallest<<class < len(b) {
		class++
	}
	m.Pool.put(class, b)
}

func (p *Pool) get(class int) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle[class])
	if n == 0 {
		return nil
	}
	b := p.idle[class][n-1]
	p.idle[class] = p.idle[class][:n-1]
	return b
}

func (p *Pool) put(class int, b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.idle[class] == nil {
		p.idle[class] = make([][]byte, 0, idlePerClass)
	}
	if len(p.idle[class]) < idlePerClass {
		p.idle[class] = append(p.idle[class], b)
	}
}
