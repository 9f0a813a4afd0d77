// SPDX-License-Identifier: Apache-2.0

// Package succession is how one supervisor hands all that it holds to another
// one, which may be in other mount and PID namespaces: the messages, the socket
// and the lock that they share, and what each side does when.
//
// [Giver] and [Taker] are the two sides. They decide, and touch nothing: their
// callers carry out the steps that they return. No goroutine is started.
package succession

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Kind says what a message means.
type Kind string

// The kinds of messages, in their order. The giver is the active supervisor.
const (
	// Hello is what the one that connects says of itself.
	Hello Kind = "hello"
	// Offer is the giver's answer to one that may take over, and its word to a
	// standby that should.
	Offer Kind = "offer"
	// Noted is the giver's answer to a standby.
	Noted Kind = "noted"
	// Refuse is the giver's answer to one that may not take over.
	Refuse Kind = "refuse"
	// Copy asks the giver for copies of all that it has. Its daemon serves meanwhile.
	Copy Kind = "copy"
	// Descriptors come with their names.
	Descriptors Kind = "descriptors"
	// Forget names those of them that are of no use any more.
	Forget Kind = "forget"
	// Copied follows the last of the copies, on the way to a daemon as well.
	Copied Kind = "copied"
	// Take has the giver stop its daemon. The taker's lease comes with it.
	Take Kind = "take"
	// All follows the last descriptor that has come since Copied. The lock comes with it.
	All Kind = "all"
	// Start follows the last descriptor on the way to a daemon.
	Start Kind = "start"
	// Have is the taker's word that it has them all.
	Have Kind = "have"
	// Ready is the taker's word that its daemon serves.
	Ready Kind = "ready"
	// Abort of either side ends the attempt.
	Abort Kind = "abort"
)

// Protocol is the version of the messages that this program prefers. Kinds and
// fields may be added within a version: readers ignore fields that they do not
// know.
const Protocol = 1

// protocols are all versions that this program speaks, the best one last. What
// two minor releases ago spoke stays in the list.
func protocols() []int { return []int{Protocol} }

// The limits of what is read.
const (
	// MaxRights is how many descriptors the kernel takes with one message.
	MaxRights = 253
	// maxMessage is the longest message in bytes.
	maxMessage = 64 << 10
	// maxNames is how many bytes the names of one message may have.
	maxNames = 32 << 10
	// maxText is the length of a version, an instance or a reason. Reasons are cut
	// to half of that before they are sent.
	maxText      = 1024
	maxProtocols = 16
	maxCount     = 1 << 20
	// maxPositions is how many descriptors one message has forgotten.
	maxPositions = 4096
)

// Identity is what a supervisor says of itself.
type Identity struct {
	Version string `json:"version,omitempty"`
	// Instance is whose supervisor it is. Those of two do not follow each other.
	Instance string `json:"instance,omitempty"`
	// StateVersion is the format of the state files that its daemon knows.
	StateVersion int `json:"stateVersion,omitempty"`
}

// Message is one datagram.
type Message struct {
	Kind Kind `json:"kind"`
	// Of Hello, Offer and Noted.
	Identity

	// Protocols are those that the sender of Hello speaks.
	Protocols []int `json:"protocols,omitempty"`
	// Standby: the sender of Hello does not take over by itself.
	Standby bool `json:"standby,omitempty"`
	// Protocol is the one that Offer and Noted choose.
	Protocol int `json:"protocol,omitempty"`
	// Count of descriptors: of Offer as it is now; of Copied, All, Start and Have those that
	// the receiver of them all has then.
	Count int `json:"count,omitempty"`
	// Orderly of All: the daemon ended in order.
	Orderly bool `json:"orderly,omitempty"`
	// Names of Descriptors, in their order.
	Names []string `json:"names,omitempty"`
	// Positions of Forget, in rising order, among those that the receiver has.
	Positions []int `json:"positions,omitempty"`
	// Reason of Refuse and Abort.
	Reason string `json:"reason,omitempty"`
	// Busy of Refuse: it is worth another try soon.
	Busy bool `json:"busy,omitempty"`
	// Alone of Start: no other supervisor may take back what has come.
	Alone bool `json:"alone,omitempty"`
}

// encode returns the datagram.
func (m *Message) encode() ([]byte, error) {
	m.Reason = cut(m.Reason)
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	if len(b) > maxMessage {
		return nil, fmt.Errorf("message %s of %d bytes: at most %d are sent",
			m.Kind, len(b), maxMessage)
	}
	return b, nil
}

// cut shortens a reason to what is read.
func cut(text string) string {
	const most = maxText / 2
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}

// decode reads what a datagram with so many descriptors says.
func decode(b []byte, fds int) (Message, error) {
	var m Message
	if err := json.Unmarshal(b, &m); err != nil {
		return Message{}, err
	}
	if err := m.validate(); err != nil {
		return Message{}, fmt.Errorf("message %.20q: %w", string(m.Kind), err)
	}
	if want := m.rights(); fds != want {
		return Message{}, fmt.Errorf("message %s comes with %d descriptors: want %d",
			m.Kind, fds, want)
	}
	return m, nil
}

// rights is how many descriptors come with the message.
func (m *Message) rights() int {
	switch m.Kind {
	case Take:
		return 2 // the two ends of the lease
	case Descriptors:
		return len(m.Names)
	case All:
		return 1 // the lock
	}
	return 0
}

func (m *Message) validate() error {
	kinds := []Kind{
		Hello, Offer, Noted, Refuse, Copy, Descriptors, Forget, Copied, Take, All, Start, Have,
		Ready, Abort,
	}
	if !slices.Contains(kinds, m.Kind) {
		return errors.New("unknown kind")
	}
	for _, text := range []string{m.Version, m.Instance, m.Reason} {
		if len(text) > maxText {
			return fmt.Errorf("text of %d bytes: want at most %d", len(text), maxText)
		}
	}
	if len(m.Protocols) > maxProtocols {
		return fmt.Errorf("%d protocols: want at most %d", len(m.Protocols), maxProtocols)
	}
	if m.Count < 0 || m.Count > maxCount {
		return fmt.Errorf("count %d: want 0 to %d", m.Count, maxCount)
	}
	if err := m.validatePositions(); err != nil {
		return err
	}
	return m.validateNames()
}

func (m *Message) validatePositions() error {
	if (m.Kind == Forget) != (len(m.Positions) > 0) || len(m.Positions) > maxPositions {
		return fmt.Errorf("%d positions", len(m.Positions))
	}
	last := -1
	for _, p := range m.Positions {
		if p <= last || p >= maxCount {
			return fmt.Errorf("position %d after %d: want them in rising order", p, last)
		}
		last = p
	}
	return nil
}

func (m *Message) validateNames() error {
	if (m.Kind == Descriptors) != (len(m.Names) > 0) || len(m.Names) > MaxRights {
		return fmt.Errorf("%d names", len(m.Names))
	}
	for _, name := range m.Names {
		if err := CheckName(name); err != nil {
			return err
		}
	}
	return nil
}

// CheckName is systemd's rule for the names of descriptors: they travel in a list
// with colons.
func CheckName(name string) error {
	if name == "" || len(name) > 255 {
		return fmt.Errorf("descriptor name of %d bytes: want 1 to 255", len(name))
	}
	for i := range len(name) {
		if c := name[i]; c < ' ' || c >= 0x7f || c == ':' {
			return fmt.Errorf("descriptor name %q: want printable ASCII without a colon", name)
		}
	}
	return nil
}

// common returns the best protocol that both sides speak, zero for none.
func common(theirs []int) int {
	best := 0
	for _, p := range protocols() {
		if slices.Contains(theirs, p) {
			best = max(best, p)
		}
	}
	return best
}
