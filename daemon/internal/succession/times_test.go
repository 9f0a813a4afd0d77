// SPDX-License-Identifier: Apache-2.0

package succession

import (
	"errors"
	"testing"
	"time"
)

// does returns what the steps are, without their messages.
func does(steps []Step) string {
	text := ""
	for i := range steps {
		if i > 0 {
			text += ", "
		}
		text += string(steps[i].Do)
		if steps[i].Do == Send {
			text += " " + string(steps[i].Message.Kind)
		}
	}
	return text
}

// clock is a time that a test sets.
type clock struct {
	*testing.T

	now time.Time
}

// due checks when a side goes on by itself, and goes there; zero is never.
func (c *clock) due(what string, at time.Time, want time.Duration) {
	c.Helper()
	switch {
	case want == 0 && !at.IsZero():
		c.Errorf("%s is due after %v, want never", what, at.Sub(c.now))
	case want != 0 && !at.Equal(c.now.Add(want)):
		c.Errorf("%s is due after %v, want %v", what, at.Sub(c.now), want)
	case want != 0:
		c.now = at
	}
}

func (c *clock) want(what string, got []Step, want string) {
	c.Helper()
	if text := does(got); text != want {
		c.Errorf("%s: %q, want %q", what, text, want)
	}
}

func me() Identity { return Identity{Version: "v2", StateVersion: 1} }

func them() Identity { return Identity{Version: "v1", StateVersion: 1} }

// giverAt returns a giver that has come to a stage.
func giverAt(c *clock, stage giverStage, standby bool) *Giver {
	g := NewGiver(me(), DefaultTimes(), c.now)
	hello := Message{Kind: Hello, Identity: them(), Protocols: protocols(), Standby: standby}
	steps := []func(){
		greeted:  func() {},
		waiting:  func() { g.Received(hello, Held{}, c.now) },
		offering: func() { g.Offer(Held{}, c.now) },
		copying:  func() { g.Received(Message{Kind: Copy}, Held{}, c.now) },
		copied:   func() { g.Sent(c.now) },
		stopping: func() { g.Received(Message{Kind: Take}, Held{}, c.now) },
		sending:  func() { g.DaemonStopped(2, c.now) },
		sent:     func() { g.Sent(c.now) },
		had:      func() { g.Received(Message{Kind: Have, Count: 2}, Held{}, c.now) },
	}
	for s := range stage + 1 {
		if s != offering || standby {
			steps[s]()
		}
	}
	if g.stage != stage {
		c.Fatalf("the giver is at stage %d, want %d", g.stage, stage)
	}
	return g
}

// A giver goes on without a peer that is silent, after a time of each stage. Once the
// peer has what its daemon needs, the lease decides.
func TestGiverTimes(t *testing.T) {
	const leave = "send abort, hang up"
	for stage, tt := range map[giverStage]struct {
		after time.Duration
		does  string
	}{
		greeted:  {10 * time.Second, leave},
		waiting:  {},
		offering: {15 * time.Second, leave},
		copying:  {10 * time.Second, leave},
		copied:   {15 * time.Second, leave},
		stopping: {}, // the daemon is killed in time
		sending:  {10 * time.Second, "resume, send abort"},
		sent:     {10 * time.Second, "claim the lease"},
		had:      {45 * time.Second, "claim the lease"},
	} {
		c := &clock{t, time.Now()}
		g := giverAt(c, stage, true)
		c.due("stage", g.Due(), tt.after)
		if tt.after == 0 {
			continue
		}
		c.want("silence", g.Expired(), tt.does)
		if tt.does == "claim the lease" {
			c.due("the claim", g.Due(), 0)
			c.want("claimed", g.Claimed(true), "resume, send abort")
			late := giverAt(c, stage, true)
			late.Expired()
			c.want("the daemon was first", late.Claimed(false), "let go")
		}
	}
}

// The giver kills its daemon before the taker gives up on it, and has patience for
// longer than the taker has.
func TestTimesAgree(t *testing.T) {
	times := DefaultTimes()
	if times.StopDaemon()+times.Answer > times.Stop || times.patience() <= times.Start {
		t.Errorf("%+v: one side gives up while the other one goes on in time", times)
	}
}

// takerAt returns a taker that has come to a stage.
func takerAt(c *clock, stage takerStage, standby bool) *Taker {
	limits := Limits{Descriptors: 10, Files: 1 << 20}
	t, _ := NewTaker(me(), limits, DefaultTimes(), standby, c.now)
	from := func(m Message) func() { return func() { t.Received(m, c.now) } }
	steps := []func(){
		greeting:  func() {},
		standing:  from(Message{Kind: Noted, Identity: them()}),
		preparing: from(Message{Kind: Offer, Identity: them(), Count: 1}),
		awaiting:  func() { t.Prepared(c.now) },
		showing: func() {
			t.Received(Message{Kind: Descriptors, Names: []string{"q1i", "q2i"}}, c.now)
			t.Received(Message{Kind: Forget, Positions: []int{0}}, c.now)
			t.Received(Message{Kind: Copied, Count: 1}, c.now)
		},
		taking:   func() { t.Seen(c.now) },
		starting: from(Message{Kind: All, Count: 1}),
		ending:   func() { t.Broken(errors.New("broken")); t.Claimed(true, c.now) },
	}
	for s := range stage + 1 {
		if s != standing || standby {
			steps[s]()
		}
	}
	if t.stage != stage {
		c.Fatalf("the taker is at stage %d, want %d", t.stage, stage)
	}
	return t
}

// A taker gives up after a time of each stage. Its daemon has 30 s until it serves.
func TestTakerTimes(t *testing.T) {
	const endDaemon = "end the daemon"
	for stage, tt := range map[takerStage]struct {
		after time.Duration
		does  string
	}{
		greeting:  {10 * time.Second, "send abort, hang up, fail"},
		preparing: {}, // the supervisor has a limit for its daemon
		awaiting:  {10 * time.Second, endDaemon},
		showing:   {}, // likewise
		taking:    {30 * time.Second, endDaemon},
		starting:  {30 * time.Second, "claim the lease"},
		ending:    {},
	} {
		c := &clock{t, time.Now()}
		taker := takerAt(c, stage, false)
		c.due("stage", taker.Due(), tt.after)
		if tt.after == 0 {
			continue
		}
		c.want("silence", taker.Expired(), tt.does)
		if tt.does == "claim the lease" {
			c.want("the giver was first", taker.Claimed(false, c.now), "")
			c.due("its word", taker.Due(), 10*time.Second)
			c.want("the word", taker.Received(Message{Kind: Abort}, c.now), endDaemon)
		}
		if tt.does != "send abort, hang up, fail" {
			c.want("the daemon ended", taker.DaemonEnded(""), "discard, send abort, hang up, fail")
		}
	}
	c := &clock{t, time.Now()}
	standby := takerAt(c, standing, true)
	c.due("a standby", standby.Due(), 0)
	// It has let go because the lease said so, and the word of that comes later.
	c.want("ready", standby.Received(Message{Kind: Ready}, c.now), "")
}

// The giver's end means something else at each stage: what was copied is of no use
// without it until all is here.
func TestGiverGone(t *testing.T) {
	for stage, want := range map[takerStage]string{
		greeting: "hang up, seek", preparing: "hang up, seek",
		awaiting: "hang up, discard, seek",
		showing:  "hang up, discard, seek",
		taking:   "hang up, discard, seek",
		starting: "hang up",
	} {
		c := &clock{t, time.Now()}
		c.want("gone", takerAt(c, stage, false).Gone(), want)
	}
}
