// SPDX-License-Identifier: Apache-2.0

package marks

import (
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/netns"
)

// Attributes of a routing rule (linux/fib_rules.h).
const (
	ruleHeaderLen = 12 // struct fib_rule_hdr
	rulePriority  = 6
	ruleMask      = 16
)

// rules looks at the routing rules. A packet that the inspector marks is no
// longer routed by a rule that wants other bits under its mask.
func (f *finder) rules(ns *netns.NetNS) error {
	var errs []error
	for _, family := range []struct {
		number byte
		name   string
	}{{unix.AF_INET, "-4"}, {unix.AF_INET6, "-6"}} {
		header := make([]byte, ruleHeaderLen)
		header[0] = family.number
		err := f.list(ns, unix.NETLINK_ROUTE, unix.RTM_GETRULE, header, func(body []byte) error {
			return f.rule(family.name, body)
		})
		// Neither where IPv6 is switched off, nor where rules are not compiled in.
		if err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EAFNOSUPPORT) {
			errs = append(errs, fmt.Errorf("list routing rules: %w", err))
		}
	}
	return errors.Join(errs...)
}

func (f *finder) rule(family string, body []byte) error {
	if len(body) < ruleHeaderLen {
		return errors.New("routing rule without a header")
	}
	ad, err := netlink.NewAttributeDecoder(body[ruleHeaderLen:])
	if err != nil {
		return err
	}
	var priority, mask uint32
	for ad.Next() {
		switch ad.Type() {
		case rulePriority:
			priority = ad.Uint32()
		case ruleMask: // 0 where the rule does not look at the mark
			mask = ad.Uint32()
		}
	}
	f.add(Use{Where: fmt.Sprintf("ip %s rule %d", family, priority), Mask: mask})
	return ad.Err()
}
