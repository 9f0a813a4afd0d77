// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
)

// verified is a selector that the tables of the netns agreed with in a
// generation: the kernel counts the changes of all tables in a netns.
type verified struct {
	generation uint32
	selector   hook.Selector
}

// Verify compares the table's owner and rules with what Arm makes of s, unless no
// table of the netns has changed since they were found right. The socket is in the
// netns, so nothing has to enter it.
func (t *table) Verify(_ netns.Place, s hook.Selector) error {
	generation, err := t.generation()
	if err != nil {
		return err
	}
	now := verified{generation: generation, selector: s}
	if generation != 0 && reflect.DeepEqual(now, t.verified) {
		return nil
	}
	l, err := newLayout(&s, t.heeded, t.hook.native)
	if err != nil {
		return err
	}
	if err := t.check(&l); err != nil {
		return err
	}
	t.verified = now
	return nil
}

// check compares the table with the layout.
func (t *table) check(l *layout) error {
	if err := t.checkOwner(); err != nil {
		return fmt.Errorf("%w: %w", hook.ErrNotArmed, err)
	}
	have, digest, err := t.listRules()
	if err != nil {
		return fmt.Errorf("%w: list rules: %w", hook.ErrNotArmed, err)
	}
	for _, c := range l.chains {
		var want [][]string
		for _, r := range c.rules {
			want = append(want, r.names())
		}
		if !slices.EqualFunc(have[c.name], want, slices.Equal[[]string]) {
			return fmt.Errorf("%w: chain %s has rules %v, want %v",
				hook.ErrNotArmed, c.name, have[c.name], want)
		}
	}
	if want := l.chains[0].comment; digest != want {
		return fmt.Errorf("%w: the rules' digest is %q, want %q", hook.ErrNotArmed, digest, want)
	}
	return t.checkContents(l.contents())
}

// checkContents compares the names of chains and sets; those of sets tell how
// flows are settled.
func (t *table) checkContents(want *contents) error {
	have, err := t.list()
	if err != nil {
		return fmt.Errorf("%w: list chains and sets: %w", hook.ErrNotArmed, err)
	}
	for _, c := range []struct {
		what       string
		have, want []string
	}{{"chains", have.chains, want.chains}, {"sets", have.sets, want.sets}} {
		if len(c.have) != len(c.want) || len(missing(c.want, c.have)) > 0 {
			return fmt.Errorf("%w: %s are %v, want %v", hook.ErrNotArmed, c.what, c.have, c.want)
		}
	}
	return nil
}

func (t *table) checkOwner() error {
	if t.name == "" {
		if _, err := t.chooseName(); err != nil {
			return err
		}
	}
	port, err := t.conn.socket.PortID()
	if err != nil {
		return err
	}
	o, err := t.owner(t.name)
	if err == nil && o.rank(port) != rankOwn {
		return fmt.Errorf("table inet %s belongs to netlink port %d, want %d", t.name, o.port, port)
	}
	return err
}

// listRules returns the names of each rule's expressions, by chain, and the
// digest of all of them.
func (t *table) listRules() (rules map[string][][]string, digest string, err error) {
	rules = make(map[string][][]string)
	err = t.conn.list(t.name, unix.NFT_MSG_GETRULE, func(ad *netlink.AttributeDecoder) error {
		var chain string
		var names []string
		for ad.Next() {
			switch ad.Type() {
			case unix.NFTA_RULE_CHAIN:
				chain = ad.String()
			case unix.NFTA_RULE_EXPRESSIONS:
				ad.Nested(expressionNames(&names))
			case unix.NFTA_RULE_USERDATA:
				if b := ad.Bytes(); chain == defragChain && len(b) > 3 {
					digest = string(b[2 : len(b)-1])
				}
			}
		}
		rules[chain] = append(rules[chain], names)
		return nil
	})
	return rules, digest, err
}

// expressionNames collects the names in a list of expressions.
func expressionNames(into *[]string) func(*netlink.AttributeDecoder) error {
	return func(list *netlink.AttributeDecoder) error {
		for list.Next() {
			list.Nested(func(e *netlink.AttributeDecoder) error {
				for e.Next() {
					if e.Type() == unix.NFTA_EXPR_NAME {
						*into = append(*into, e.String())
					}
				}
				return nil
			})
		}
		return nil
	}
}
