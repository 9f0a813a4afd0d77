// SPDX-License-Identifier: Apache-2.0

package sets

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/gaissmai/bart"
)

// Prefixes is a set of addresses. An IPv4 address that is written inside of IPv6
// (::ffff:192.0.2.1) is the IPv4 address.
type Prefixes struct {
	table bart.Lite
	size  int
}

// Add puts a prefix, or a single address, into the set. It returns an error that says
// what would be right if the text is neither.
func (p *Prefixes) Add(text string) error {
	prefix, err := ParsePrefix(text)
	if err != nil {
		return err
	}
	p.table.Insert(prefix)
	p.size++
	return nil
}

// Len returns how many prefixes the set was given.
func (p *Prefixes) Len() int { return p.size }

// Contains reports whether one of the set's prefixes covers the address.
func (p *Prefixes) Contains(addr netip.Addr) bool {
	return addr.IsValid() && p.table.Contains(addr.Unmap().WithZone(""))
}

// ParsePrefix reads a prefix without host bits, or an address.
func ParsePrefix(text string) (netip.Prefix, error) {
	if !strings.Contains(text, "/") {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf(
				"%q is no network: write it as in 10.0.0.0/8 or 2001:db8::/32", text)
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf(
			"%q is no network: write it as in 10.0.0.0/8 or 2001:db8::/32", text)
	}
	if prefix != prefix.Masked() {
		return netip.Prefix{}, fmt.Errorf(
			"%q has bits after its length: write %s", text, prefix.Masked())
	}
	if prefix.Addr().Is4In6() && prefix.Bits() >= 96 {
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
	}
	return prefix, nil
}
