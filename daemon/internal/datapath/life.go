// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"sync/atomic"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// life is the time in which packets with one label come to the inspector. The
// datapath holds it, and each of its readers. It ends when the last of them lets go,
// which may be a goroutine whose inspector returns late.
type life struct {
	label   *inspect.Attachment
	holders atomic.Int32
	ended   func(*inspect.Attachment)
}

// begin begins a life with one holder.
func (f *Factory) begin(label *inspect.Attachment) *life {
	l := &life{label: label, ended: f.options.Detached}
	l.hold()
	if f.options.Attached != nil {
		f.options.Attached(label)
	}
	return l
}

func (l *life) hold() { l.holders.Add(1) }

func (l *life) release() {
	if l.holders.Add(-1) == 0 && l.ended != nil {
		l.ended(l.label)
	}
}

// Begin says whose packets will come, unless it was said already. Up and Inherit do it
// themselves.
func (d *Datapath) Begin(label *inspect.Attachment) {
	if d.life == nil {
		d.life = d.factory.begin(label)
		d.needs = d.askNeeds()
	}
}

// end ends it, once no reader has a packet any more. Nothing is read after it.
func (d *Datapath) end() {
	if d.life != nil {
		d.life.release()
		d.life = nil
	}
}
