// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nfqueue_test

import (
	"net/netip"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
)

// users are whose packets an inspector was shown.
type users struct {
	*fixture
	packets chan user
}

type user struct {
	direction inspect.Direction
	uid       int64
}

func (u *users) want(when string, want ...user) {
	u.Helper()
	for n, want := range want {
		if got := <-u.packets; got != want {
			u.Errorf("%s: packet %d: %+v, want %+v", when, n, got, want)
		}
	}
}

// The kernel tells whose a packet's socket is while it is asked to, whatever other flags
// change: by the numbers of the initial user namespace, and of what a socket sends alone.
func TestSocketUID(t *testing.T) {
	u := &users{newFixtureOf(t, hook.In|hook.Out), make(chan user, 16)}
	q := u.bind(80)
	u.run(q, false, func(p *inspect.Packet) inspect.Verdict {
		u.packets <- user{p.Direction, p.UID}
		return inspect.Verdict{Action: inspect.Accept}
	})
	to := u.to.LocalAddr().String()
	u.send(1)
	u.pod.SendAs(t, 1000, to)
	u.want("not asked", user{inspect.Out, -1}, user{inspect.Out, -1})
	u.must(q.SetSocketUID(true))
	u.must(q.SetFailOpen(true))
	const mapped = 3_000_000_000
	u.send(1)
	u.pod.SendAs(t, 1000, to)
	u.pod.SendInUserNS(t, mapped, to)
	u.want("asked", user{inspect.Out, 0}, user{inspect.Out, 1000}, user{inspect.Out, mapped})
	u.withoutSocket()
	u.must(q.SetSocketUID(false))
	u.send(1)
	u.want("not asked any more", user{inspect.Out, -1})
}

// withoutSocket has packets come that no socket of the pod has sent.
func (u *users) withoutSocket() {
	u.Helper()
	_, err := u.to.WriteTo(nil, u.from.LocalAddr())
	u.must(err)
	u.want("to a socket", user{inspect.In, -1})
	nobody := u.peer.DialUDP(u, netip.AddrPortFrom(u.pod.IPv4(), 9).String())
	_, err = nobody.Write(nil)
	u.must(err)
	u.want("the kernel's answer", user{inspect.In, -1}, user{inspect.Out, -1})
}

// Who inherits a queue has it tell what its own configuration says.
func TestSocketUIDOfInheritedQueue(t *testing.T) {
	for _, asked := range []bool{true, false} {
		u := &users{newFixture(t), make(chan user, 16)}
		q := u.bind(80)
		u.must(q.SetSocketUID(!asked))
		socket := nonblocking(t, q.File())
		u.must(q.Close())
		c := config(80)
		c.SocketUID = asked
		q, err := nfqueue.OpenInherited(socket, c)
		u.must(err)
		u.run(q, false, func(p *inspect.Packet) inspect.Verdict {
			u.packets <- user{p.Direction, min(p.UID, 0)}
			return inspect.Verdict{Action: inspect.Accept}
		})
		u.send(1)
		want := user{inspect.Out, -1}
		if asked {
			want.uid = 0 // whoever runs this
		}
		u.want("inherited", want)
	}
}

// BenchmarkSocketUID is BenchmarkQueue with and without it.
func BenchmarkSocketUID(b *testing.B) {
	for name, on := range map[string]bool{"without": false, "with": true} {
		b.Run(name, func(b *testing.B) {
			benchmarkQueueOf(b, inspect.AcceptAll{}, 0, on)
		})
	}
}
