// SPDX-License-Identifier: Apache-2.0

package marks

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/netns"
)

// family is how one address family's iptables are asked for, and what its
// entries look like (linux/netfilter_ipv4/ip_tables.h and its sister).
type family struct {
	names         string // file with the tables that there are
	program       string
	domain, level int
	// fixed is the length of an entry before its matches, offsets where in it the
	// beginnings of its target and of the next entry are.
	fixed, offsets int
}

func families() []family {
	return []family{
		{"ip_tables_names", "iptables", unix.AF_INET, unix.IPPROTO_IP, 112, 88},
		{"ip6_tables_names", "ip6tables", unix.AF_INET6, unix.IPPROTO_IPV6, 168, 140},
	}
}

const (
	getInfo     = 64 // IPT_SO_GET_INFO, IP6T_SO_GET_INFO
	getEntries  = 65
	tableName   = 32                    // the length of a name
	infoLen     = tableName + 4*(1+5+5) // up to the number of entries and their size
	entriesAt   = tableName + 8         // in the answer, after the size and its padding
	maxEntries  = 16 << 20              // bytes; 100,000 rules
	extensionAt = 32                    // a match or target: its size, name and revision
)

// legacy looks at the iptables that are not nftables. Only tables that exist
// already are asked for: asking makes the others.
func (f *finder) legacy(ns *netns.NetNS) error {
	var errs []error
	for _, kind := range families() {
		list, err := netns.ReadFile(ns, "/proc/thread-self/net/"+kind.names)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
			continue
		}
		for table := range bytes.Lines(list) {
			entries, err := kind.entries(ns, string(bytes.TrimSpace(table)))
			if err == nil {
				err = f.entries(&kind, string(bytes.TrimSpace(table)), entries)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("list %s table: %w", kind.program, err))
			}
		}
	}
	return errors.Join(errs...)
}

// entries returns those of a table. It may change between the two calls; the
// second one then fails with EAGAIN.
func (k *family) entries(ns *netns.NetNS, table string) ([]byte, error) {
	fd, err := ns.Socket(k.domain, unix.SOCK_RAW, unix.IPPROTO_RAW)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	info := make([]byte, infoLen+8)
	copy(info[:tableName-1], table)
	if err := getsockopt(fd, k.level, getInfo, info); err != nil {
		return nil, err
	}
	size := binary.NativeEndian.Uint32(info[infoLen+4:])
	if size > maxEntries {
		return nil, errTooMany
	}
	answer := make([]byte, entriesAt+int(size))
	copy(answer[:tableName-1], table)
	binary.NativeEndian.PutUint32(answer[tableName:], size)
	if err := getsockopt(fd, k.level, getEntries, answer); err != nil {
		return nil, err
	}
	return answer[entriesAt:], nil
}

func getsockopt(fd, level, option int, value []byte) error {
	length := uint32(len(value))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level),
		uintptr(option), uintptr(unsafe.Pointer(&value[0])), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return os.NewSyscallError("getsockopt", errno)
	}
	return nil
}

// entries looks at each entry's matches and its target, which have one layout.
func (f *finder) entries(k *family, table string, b []byte) error {
	where := k.program + "-legacy -t " + table
	for len(b) > 0 {
		if len(b) < k.fixed {
			return errMalformed
		}
		target := int(binary.NativeEndian.Uint16(b[k.offsets:]))
		next := int(binary.NativeEndian.Uint16(b[k.offsets+2:]))
		if target < k.fixed || next < target+extensionAt || next > len(b) {
			return errMalformed
		}
		for at := k.fixed; at < target; {
			size, err := f.extension(where, b[at:target], false)
			if err != nil {
				return err
			}
			at += size
		}
		if _, err := f.extension(where, b[target:next], true); err != nil {
			return err
		}
		b = b[next:]
	}
	return nil
}

var errMalformed = errors.New("malformed iptables entry")

// extension looks at the match or target at the beginning of b and returns its
// size.
func (f *finder) extension(where string, b []byte, target bool) (size int, err error) {
	if len(b) < extensionAt {
		return 0, errMalformed
	}
	size = int(binary.NativeEndian.Uint16(b))
	if size < extensionAt || size > len(b) {
		return 0, errMalformed
	}
	x := extension{
		target: target, name: name(b[2 : extensionAt-1]), revision: uint32(b[extensionAt-1]),
		info: b[extensionAt:size],
	}
	reads, sets := x.marks()
	f.add(Use{Where: where, Mask: reads})
	f.add(Use{Where: where, Sets: true, Mask: sets})
	return size, nil
}
