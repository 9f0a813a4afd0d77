// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"strings"

	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
	"github.com/nsqueue/nsqueue/daemon/internal/succession"
)

// maxMessage is the largest notification that systemd reads, too.
const maxMessage = 4096

// message is what a daemon says in one datagram.
type message struct {
	ready, alive, stopping bool
	// prepared: it waits for descriptors.
	prepared bool
	// seen: it has looked at those that have come so far.
	seen bool
	// trigger is the daemon's own word that it hangs.
	trigger       bool
	store, remove bool
	name          string
	status        string
}

// defaultName is what descriptors without a name are stored under.
const defaultName = "stored"

// parseMessage reads the assignments that mean something here. Others are for
// other supervisors.
func parseMessage(b []byte) (message, error) {
	m := message{name: defaultName}
	for line := range strings.SplitSeq(string(b), "\n") {
		switch key, value, _ := strings.Cut(line, "="); key {
		case "READY":
			m.ready = value == "1"
		case fdstore.PreparedMessage:
			m.prepared = value == "1"
		case fdstore.SeenMessage:
			m.seen = value == "1"
		case "STOPPING":
			m.stopping = value == "1"
		case "WATCHDOG":
			m.alive, m.trigger = value == "1", value == "trigger"
		case "STATUS":
			m.status = value
		case "FDSTORE":
			m.store = value == "1"
		case "FDSTOREREMOVE":
			m.remove = value == "1"
		case "FDNAME":
			if err := succession.CheckName(value); err != nil {
				return message{}, err
			}
			m.name = value
		}
	}
	if m.store && m.remove {
		return message{}, errors.New("notification stores and removes at once")
	}
	return m, nil
}
