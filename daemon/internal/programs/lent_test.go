// SPDX-License-Identifier: Apache-2.0

//go:build netns

package programs

import (
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/daemon/internal/program"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
	"github.com/nsqueue/nsqueue/internal/fdcontrol"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// hangs is after how long a test is taken to hang.
const hangs = time.Minute

// borrowing is an inspector that is connected, or not, as a test says.
type borrowing struct {
	t     *testing.T
	away  chan struct{} // nil: it is connected
	loans chan *borrowed
}

func (b *borrowing) Away() <-chan struct{} {
	select {
	case <-b.away:
		return nil
	default:
		return b.away
	}
}

func (b *borrowing) Lend(_ *inspect.Attachment, socket *os.File) (Loan, error) {
	f, err := fdcontrol.Duplicate(socket, "lent")
	if err != nil {
		return nil, err
	}
	l := &borrowed{f, make(chan struct{}), make(chan struct{})}
	b.loans <- l
	return l, nil
}

// borrowed is a socket that the inspector has.
type borrowed struct {
	socket          *os.File
	ended, returned chan struct{}
}

func (*borrowed) PID() int                 { return os.Getpid() }
func (l *borrowed) Ended() <-chan struct{} { return l.ended }
func (l *borrowed) Return()                { close(l.returned) }

// bind has the inspector read the queue.
func (l *borrowed) bind(t *testing.T) *nfqueue.Queue {
	t.Helper()
	q, err := nfqueue.OpenInherited(l.socket, nfqueue.Config{
		Number: 90, CopyRange: nfqueue.MaxCopyRange, Length: 1024, ReceiveBuffer: 1 << 16,
	})
	nstest.Must(t, err)
	nstest.Must(t, q.Bind())
	t.Cleanup(func() { _ = q.Close() })
	return q
}

// lentPath says when packets go to the inspector, and when they do no more.
type lentPath struct {
	watched

	opened chan []*nfqueue.Copy
	closed chan struct{}
}

func (p *lentPath) Open(copies []*nfqueue.Copy) error {
	p.opened <- copies
	return nil
}

func (p *lentPath) Close() (int, error) {
	p.closed <- struct{}{}
	return 0, nil
}

func await[T any](t *testing.T, what string, c <-chan T) (got T) {
	t.Helper()
	select {
	case got = <-c:
	case <-time.After(hangs):
		t.Fatalf("not within %v: %s", hangs, what)
	}
	return got
}

// An inspector is given a socket when it is there, and packets go to it when it has bound
// its queue by it. When it is gone they do no more, and the next one has another socket.
func TestLend(t *testing.T) {
	ns, err := netns.Open(nstest.New(t).Path())
	nstest.Must(t, err)
	defer ns.Close()
	b := &borrowing{t: t, away: make(chan struct{}), loans: make(chan *borrowed)}
	path := &lentPath{
		watched: watched{func() {}}, opened: make(chan []*nfqueue.Copy), closed: make(chan struct{}),
	}
	p := NewWithoutGroups(slog.New(slog.NewTextHandler(t.Output(), nil)))
	c := &Config{
		Name: "own", Spec: program.Spec{Queue: 90, Queues: 1}, Lender: b, Budget: hangs,
		Backoff: time.Millisecond, MaxBackoff: time.Millisecond,
	}
	keep := func(left *state.Program) *Keeper {
		k, err := p.Keep(c, ns, program.Pod{}, &inspect.Attachment{}, path, left)
		nstest.Must(t, err)
		return k
	}
	k := keep(&state.Program{Name: "own", Ready: true})
	await(t, "what an earlier daemon has lent is taken back", path.closed)
	await(t, "a pod does not wait for an inspector that is away", k.Ready())
	close(b.away)

	first := await(t, "the inspector is given a socket", b.loans)
	queue := first.bind(t)
	copies := await(t, "packets go to the inspector", path.opened)
	if s, ok, err := copies[0].Stat(ns); !ok || err != nil || s.Number != 90 {
		t.Errorf("%+v, bound %v, %v", s, ok, err)
	}
	nstest.Must(t, queue.Unbind())
	nstest.Must(t, copies[0].Close())
	close(first.ended)
	await(t, "no packets go to one that is gone", path.closed)

	second := await(t, "the next one is given a socket", b.loans)
	second.bind(t)
	next := await(t, "packets go to the next one", path.opened)
	if next[0].SameSocket(copies[0]) {
		t.Error("it has the same socket")
	}
	nstest.Must(t, next[0].Close())
	k.Stop()
	await(t, "the socket is taken back", second.returned)
	await(t, "the keeper ends", k.Done())

	k = keep(nil)
	third := await(t, "another one is given a socket", b.loans)
	k.Leave()
	await(t, "the keeper leaves the socket", k.Done())
	select {
	case <-third.returned:
		t.Error("a socket is taken back that is left to the inspector")
	default:
	}
	nstest.Must(t, third.socket.Close())
}
