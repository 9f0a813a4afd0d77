// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/succession"
)

// speaker is the other side of a hand-over, whose words are the test's.
type speaker struct {
	t    *testing.T
	conn *succession.Conn
}

func (r *rig) speaker(t *testing.T) *speaker {
	t.Helper()
	var conn *succession.Conn
	eventually(t, "the supervisor is found", func() bool {
		var err error
		conn, err = succession.Dial(r.shared)
		return err == nil
	})
	return &speaker{t, conn}
}

func (s *speaker) say(m succession.Message, fds ...int) {
	s.t.Helper()
	if err := s.conn.Send(&m, fds...); err != nil {
		s.t.Fatal(err)
	}
}

// hear waits for a message, and closes what comes with those before it.
func (s *speaker) hear(want succession.Kind) (m succession.Message) {
	s.t.Helper()
	eventually(s.t, "message "+string(want), func() bool {
		got, fds, err := s.conn.Receive()
		succession.CloseAll(fds)
		if err != nil && !errors.Is(err, succession.ErrAgain) {
			s.t.Fatal(err)
		}
		m = got
		return err == nil && m.Kind == want
	})
	return m
}

// What a supervisor says last counts, also where its end comes right behind.
func TestLastWordCounts(t *testing.T) {
	for _, tt := range []struct {
		kind      succession.Kind
		inherited string
	}{
		{succession.Abort, "q1i=0,q2f=1,t1i=2,l0i=3"},
		{succession.Ready, ""}, // everything was handed over, and is gone
	} {
		t.Run(string(tt.kind), func(t *testing.T) {
			r := newShare(t)
			r.mode(t, "", "put "+fourNames)
			r.start(t)
			r.serving(t)
			r.role(t, succession.Active)
			s := r.speaker(t)
			s.say(succession.Message{
				Kind: succession.Hello, Protocols: []int{succession.Protocol},
				Identity: succession.Identity{StateVersion: 1 << 10},
			})
			s.hear(succession.Offer)
			s.say(succession.Message{Kind: succession.Copy})
			s.hear(succession.Copied)
			lease, err := succession.NewLease()
			if err != nil {
				t.Fatal(err)
			}
			read, write := lease.Ends()
			s.say(succession.Message{Kind: succession.Take}, read, write)
			lease.Close()
			all := s.hear(succession.All)
			r.want(t, "stopping keeps=true")
			kill(t, r.cmd.Process.Pid, unix.SIGSTOP)
			s.say(succession.Message{Kind: succession.Have, Count: all.Count})
			s.say(succession.Message{Kind: tt.kind})
			s.conn.Close()
			kill(t, r.cmd.Process.Pid, unix.SIGCONT)
			if got := r.serving(t).inherited; got != tt.inherited {
				t.Errorf("the daemon has %q, want %q", got, tt.inherited)
			}
			r.role(t, succession.Active)
		})
	}
}
