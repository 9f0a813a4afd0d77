// SPDX-License-Identifier: Apache-2.0

package nfqueue

import "sync/atomic"

// pausing is that packets of a reader are left in the kernel for a while, because its
// inspector has enough of them. The kernel knows by the failure policy what to do when
// there are too many.
type pausing struct {
	on atomic.Bool
	// goOn has the poller tell of packets again; nil while the reader has no poller.
	goOn atomic.Pointer[func()]
}

// pause has no packets read, until resume. A batch that has been read goes on.
func (p *pausing) pause() { p.on.Store(true) }

func (p *pausing) resume() {
	if p.on.CompareAndSwap(true, false) {
		if goOn := p.goOn.Load(); goOn != nil {
			(*goOn)()
		}
	}
}

// Pause has further packets of the queue wait in the kernel. An inspector that calls it, of
// what is the Deferrer of its packets, calls Resume before long: nothing else does, but the
// reader's End.
func (s *session) Pause() { s.reader.pausing.pause() }

// Resume has packets read again.
func (s *session) Resume() { s.reader.pausing.resume() }
