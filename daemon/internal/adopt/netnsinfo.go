// SPDX-License-Identifier: Apache-2.0

package adopt

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
)

// errNotPods is about the netns that no pod has for itself.
var errNotPods = errors.New("no pod's netns: it is that of the node, or nsqueued's own")

// netnsInfo is a netns that was looked into.
type netnsInfo struct {
	id api.Netns
	// addresses has those interfaces that were asked for and are there.
	addresses map[string][]netip.Addr
	// explained: some record is about it, in whatever way.
	explained bool
}

// verify says whether the interface has exactly these addresses.
func (s *netnsInfo) verify(ifname string, want []netip.Addr) error {
	got, ok := s.addresses[ifname]
	switch {
	case !ok:
		return fmt.Errorf("there is no interface %s in %s", ifname, s.id.Path)
	case !slices.Equal(got, want):
		return fmt.Errorf("%s in %s has %s, the cached result has %s",
			ifname, s.id.Path, join(got), join(want))
	}
	return nil
}

// join prints addresses; none is in words.
func join(addresses []netip.Addr) string {
	if len(addresses) == 0 {
		return "no address"
	}
	var texts []string
	for _, a := range addresses {
		texts = append(texts, a.String())
	}
	return strings.Join(texts, ", ")
}

// scanned are the netns that a scan has looked into, each of them once.
type scanned struct {
	ifnames []string // that it looks for
	// known goes by inode, which takes no opening to ask for. The kernel reuses
	// them, but attaching a netns looks at its cookie again.
	known  map[inode]*netnsInfo
	listed []*netnsInfo // what the directories have
}

// inode is where a netns is on the kernel's file system of namespaces.
type inode struct{ dev, ino uint64 }

// list looks into everything in the directories. What is no netns, such as the
// empty file that an unmounted one leaves behind, is passed over; what cannot
// be looked into is a result.
func (s *scanned) list(dirs []string) (broken []api.AdoptResult, err error) {
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("look for netns: %w", err)
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			found, err := s.at(path)
			switch {
			case err == nil:
				if !slices.Contains(s.listed, found) {
					s.listed = append(s.listed, found)
				}
			case errors.Is(err, fs.ErrNotExist), errors.Is(err, netns.ErrNotNetns),
				errors.Is(err, errNotPods):
			default:
				broken = append(broken, api.AdoptResult{
					Netns: api.Netns{Path: path}, Outcome: api.UnknownNetns, Reason: err.Error(),
				})
			}
		}
	}
	return broken, nil
}

// at looks into the netns at the path. Paths of one netns give one netnsInfo.
func (s *scanned) at(path string) (*netnsInfo, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if found := s.known[inode{st.Dev, st.Ino}]; found != nil {
		return found, nil
	}
	f, found, err := openNetnsInfo(path, s.ifnames)
	if err != nil {
		return nil, err
	}
	_ = f.Close()
	s.known[inode{found.id.Dev, found.id.Ino}] = found
	return found, nil
}

// openNetnsInfo opens the netns at the path and looks at the interfaces with these
// names. The caller closes the file.
func openNetnsInfo(path string, ifnames []string) (*os.File, *netnsInfo, error) {
	f, err := openNetns(path)
	if err != nil {
		return nil, nil, err
	}
	s, err := look(f, ifnames)
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return f, s, nil
}

// openNetns opens nothing but what is on the kernel's file system of
// namespaces: opening a FIFO would wait for ever, and a device may do anything.
func openNetns(path string) (*os.File, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return nil, &os.PathError{Op: "open netns", Path: path, Err: err}
	}
	if st.Type != unix.NSFS_MAGIC {
		return nil, fmt.Errorf("%s: %w", path, netns.ErrNotNetns)
	}
	return os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
}

// look identifies the netns behind f and reads the addresses of interfaces.
func look(f *os.File, ifnames []string) (*netnsInfo, error) {
	ns, err := netns.FromFile(f)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	own, err := ns.IsCurrent()
	if err != nil {
		return nil, err
	}
	initial, err := ns.IsInitial()
	if err != nil {
		return nil, err
	}
	if own || initial {
		return nil, errNotPods
	}
	id := ns.ID()
	s := &netnsInfo{id: api.Netns{Cookie: id.Cookie, Dev: id.Dev, Ino: id.Ino, Path: f.Name()}}
	err = ns.Do(func() (err error) {
		s.addresses, err = addressesHere(ifnames)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read addresses in %s: %w", f.Name(), err)
	}
	return s, nil
}

// addressesHere returns the addresses of those interfaces of the thread's netns
// that have one of the names.
func addressesHere(ifnames []string) (map[string][]netip.Addr, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	found := make(map[string][]netip.Addr)
	for _, i := range interfaces {
		if !slices.Contains(ifnames, i.Name) {
			continue
		}
		nets, err := i.Addrs()
		if err != nil {
			return nil, err
		}
		var all []netip.Addr
		for _, n := range nets {
			p, err := netip.ParsePrefix(n.String())
			if err != nil {
				return nil, err
			}
			all = append(all, p.Addr())
		}
		found[i.Name] = canonical(all)
	}
	return found, nil
}

// canonical leaves out the addresses that every interface gives itself, which
// no CNI result has, and puts the others in order.
func canonical(addresses []netip.Addr) []netip.Addr {
	kept := []netip.Addr{}
	for _, a := range addresses {
		if a = a.Unmap(); !a.IsLinkLocalUnicast() {
			kept = append(kept, a)
		}
	}
	slices.SortFunc(kept, netip.Addr.Compare)
	return slices.Compact(kept)
}
