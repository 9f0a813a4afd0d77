// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/kernel"
)

// Disarm leaves nothing in the base chains but what heeds requests, keeps the
// rest, and waits for the packets that are still being judged by the old rules: they are
// in the queue or past the table's chains then.
func (t *table) Disarm() error {
	if err := t.DisarmEnded(); err != nil {
		return err
	}
	return kernel.GracePeriod()
}

// DisarmEnded does the same and does not wait.
func (t *table) DisarmEnded() error {
	var requests []request
	for _, p := range hookPoints() {
		settle, queue := p.base()
		settle.rules, queue.rules = restRules(&p, t.heeded)
		for _, c := range []chain{settle, queue} {
			requests = append(append(requests, flushChain(c.name)), newRules(&c)...)
		}
	}
	if t.name == "" {
		if _, err := t.chooseName(); errors.Is(err, hook.ErrForeign) {
			return nil // never armed
		} else if err != nil {
			return t.explain("find", err)
		}
	}
	err := t.transact(requests)
	if errors.Is(err, unix.ENOENT) { // never armed
		return nil
	}
	if err != nil {
		return t.explain("disarm", err)
	}
	return nil
}
