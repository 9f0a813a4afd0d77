// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/external/proto"
)

// lent receives ATTACH with a descriptor.
func (c *client) lent() (number uint32, socket *os.File) {
	c.Helper()
	buf, oob := make([]byte, proto.MaxMessage), make([]byte, 64)
	n, on, _, _, err := c.conn.ReadMsgUnix(buf, oob)
	if err != nil {
		c.Fatal(err)
	}
	number, _, err = proto.ParseAttach(buf[:n])
	if err != nil {
		c.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:on])
	if err != nil || len(messages) != 1 {
		c.Fatalf("%d control messages, %v", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		c.Fatal(err)
	}
	socket = os.NewFile(uintptr(fds[0]), "lent")
	c.Cleanup(func() { _ = socket.Close() })
	return number, socket
}

func sameFile(t *testing.T, a, b *os.File) bool {
	t.Helper()
	one, err := a.Stat()
	if err != nil {
		t.Fatal(err)
	}
	other, err := b.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return os.SameFile(one, other)
}

// An inspector that reads queues by itself gets a socket for each attachment, and is told
// when that is taken back. No number comes twice.
func TestLend(t *testing.T) {
	b := newBed(t, Config{Lends: true, Queue: 90})
	socket, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	away := b.Away()
	if _, err := b.Lend(b.pod, socket); !errors.Is(err, ErrAway) || away == nil {
		t.Errorf("without an inspector: %v, away %v", err, away != nil)
	}
	c := b.connect(proto.Hello{Features: proto.FeatureQueues | proto.FeatureMemory})
	if c.welcome.Queue != 90 || c.welcome.Features != proto.FeatureQueues ||
		c.welcome.Attachments != 0 || c.memory != nil {
		t.Errorf("welcome %+v", c.welcome)
	}
	select {
	case <-away:
	case <-time.After(hangs):
		t.Error("nobody is told that the inspector has come")
	}
	for want := range uint32(2) {
		loan, err := b.Lend(b.pod, socket)
		if err != nil || loan.PID() != os.Getpid() {
			t.Fatalf("%v, process %d", err, loan.PID())
		}
		number, got := c.lent()
		if number != want+2 || !sameFile(t, socket, got) { // the pod itself has had one
			t.Errorf("number %d, the same file: %v", number, sameFile(t, socket, got))
		}
		loan.Return()
		loan.Return()
		if gone, err := proto.ParseDetach(c.receive()); err != nil || gone != number {
			t.Errorf("detached %d, %v", gone, err)
		}
	}
	loan, err := b.Lend(b.pod, socket)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.conn.Close()
	select {
	case <-loan.Ended():
	case <-time.After(hangs):
		t.Error("nobody is told that the inspector is gone")
	}
	loan.Return()
	if _, err := b.Lend(b.pod, socket); !errors.Is(err, ErrAway) {
		t.Errorf("after its end: %v", err)
	}
	if s := b.State(); s.Transport != "descriptor" || s.Attachments != 1 {
		t.Errorf("state %+v", s)
	}
}

// Who cannot read queues is refused where it is to, and who sends verdicts breaks the
// protocol.
func TestLendRefuses(t *testing.T) {
	b := newBed(t, Config{Lends: true, Queue: 90})
	c := b.dial()
	c.send((&proto.Hello{Version: proto.Version, Features: proto.FeatureMemory}).Append(nil))
	if reason, text, err := proto.ParseBye(c.receive()); err != nil ||
		reason != proto.ReasonMalformed {
		t.Errorf("%d, %q, %v", reason, text, err)
	}
	c = b.connect(proto.Hello{Features: proto.FeatureQueues})
	c.send(proto.AppendVerdicts(nil, 1, []proto.Verdict{{ID: 1}}))
	if _, err := c.conn.Read(make([]byte, 1)); err == nil {
		t.Error("verdicts are taken")
	}
	if n := b.State().Counters; n.Malformed != 2 || n.Refused != 1 {
		t.Errorf("counters %+v", n)
	}
}
