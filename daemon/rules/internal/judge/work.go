// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"time"
	"unsafe"

	"github.com/nsqueue/nsqueue/daemon/rules/internal/compile"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/proto/dns"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/proto/http"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/proto/quic"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/proto/tls"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/stream"
)

// work is what a flow has until nothing more is to be learnt of it.
type work struct {
	progress compile.Progress
	rules    uint16 // that progress is about
	phase    phase
	hold     bool // packets wait
	messages bool // one was judged already

	mark, markMask uint32

	toServer stream.Stream
	toClient stream.Stream
	server   stream.Tail // follows toServer
	client   stream.Tail // follows toClient
	parsed   int         // bytes of toServer that a parser has taken
	answered int         // the same of toClient
	// clientFollows says that client has what toClient had.
	clientFollows bool

	joiner tls.Joiner
	http   http.Parser
	dns    [2]dns.Stream // to the server, to the client

	charged   int // bytes besides the work and its streams
	quic      *quic.State
	began     time.Duration // when the first datagram came
	datagrams uint8         // of the client, while the hello is not complete

	// before is what is remembered of an older connection between the same ends, of
	// which a SYN says that it is over: the other side has not confirmed that.
	before    facts
	hasBefore bool
}

type phase uint8

const (
	opening   phase = iota // nothing is decided
	closing                // it is, but the other side may not have all bytes
	following              // each message is decided
	second                 // the client may be asked for another hello
)

// What is charged for the work of a flow, and besides for QUIC, and for what parsers keep
// of messages that come in pieces.
const (
	workSize  = int(unsafe.Sizeof(work{}))
	quicSize  = int(unsafe.Sizeof(quic.State{})) + 2*(4<<10)
	pieceSize = 8 << 10
	maxSpare  = 32 // works that a pod keeps for later
)

// newWork returns an empty work, or nil if there is no memory.
func (p *Pod) newWork() *work {
	if !p.account.Take(workSize) {
		return nil
	}
	n := len(p.spare)
	if n == 0 {
		return new(work)
	}
	w := p.spare[n-1]
	p.spare = p.spare[:n-1]
	return w
}

// freeWork gives back all that a work holds.
func (p *Pod) freeWork(w *work) {
	p.clear(w)
	if w.hasBefore {
		p.release(&w.before)
	}
	p.account.Give(workSize)
	progress := w.progress
	progress.Reset()
	*w = work{progress: progress}
	if len(p.spare) < maxSpare {
		p.spare = append(p.spare, w)
	}
}

// clear gives back the buffers of a work.
func (p *Pod) clear(w *work) {
	w.toServer.Release(&p.memory)
	w.toClient.Release(&p.memory)
	w.server.Release(&p.memory)
	w.client.Release(&p.memory)
	w.joiner, w.http, w.dns = tls.Joiner{}, http.Parser{}, [2]dns.Stream{}
	w.parsed, w.answered, w.datagrams = 0, 0, 0
	p.account.Give(w.charged)
	w.charged = 0
	if w.quic != nil {
		w.quic.Reset()
		if len(p.spareQUIC) < maxSpare {
			p.spareQUIC = append(p.spareQUIC, w.quic)
		}
		w.quic = nil
	}
}

// restart makes a work that of another connection between the same ends.
func (p *Pod) restart(w *work) {
	w.progress.Reset()
	w.phase, w.messages = opening, false
	w.joiner, w.http, w.dns = tls.Joiner{}, http.Parser{}, [2]dns.Stream{}
	w.parsed, w.answered = 0, 0
	w.toClient.Release(&p.memory)
}

// newQUIC gives a work what QUIC needs, or returns false if there is no memory.
func (p *Pod) newQUIC(w *work) bool {
	if !p.account.Take(quicSize) {
		return false
	}
	w.charged += quicSize
	if n := len(p.spareQUIC); n > 0 {
		w.quic = p.spareQUIC[n-1]
		p.spareQUIC = p.spareQUIC[:n-1]
		return true
	}
	w.quic = p.tools().opener.NewState()
	return true
}

// hasPart reports whether the last message of the client has begun and has not ended.
func (w *work) hasPart() bool { return w.http.InHead() || w.dns[0].InMessage() }

// release gives back what facts hold.
func (p *Pod) release(f *facts) {
	p.hellos.release(f.hello)
	p.names.release(f.names)
	f.hello, f.names = 0, 0
}
