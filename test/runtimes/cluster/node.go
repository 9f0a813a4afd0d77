// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/test/nstest"
)

// Node is one of the cluster. Its methods may be called concurrently.
type Node struct {
	// Name is its host name.
	Name string
	// IPv4 and IPv6 are eth0's addresses.
	IPv4, IPv6 netip.Prefix

	holder *exec.Cmd
	leash  io.Closer
	env    []string
	alone  bool
}

// NodeConfig says what a node is like.
type NodeConfig struct {
	// Name is its host name.
	Name string
	// IPv4 and IPv6 are the addresses on the switch.
	IPv4, IPv6 netip.Prefix
	// Over is a folder that is laid over the machine's root.
	Over string
	// Bind are folders of the machine that the node sees where they are.
	Bind []string
	// Path are folders before the usual ones in PATH.
	Path []string
	// Disk are folders of the node that outlive it: another one of the same name finds
	// what is in them. What other folders have is gone with the node.
	Disk []string
	// Alone says that the node sees its own processes only. They all end with it.
	Alone bool
}

// nodesDir holds the nodes' roots, in the memory of the throw-away node.
const nodesDir = "/run/nodes"

// Start makes the node and joins it to the switch.
func (s *Switch) Start(c NodeConfig) (*Node, error) {
	dir := filepath.Join(nodesDir, c.Name)
	if err := mkdirs(dir); err != nil {
		return nil, err
	}
	if err := forget(dir); err != nil {
		return nil, fmt.Errorf("make node %s: %w", c.Name, err)
	}
	h := holding{
		Name: c.Name, Dir: dir, Over: c.Over, Bind: c.Bind, Disk: c.Disk, Alone: c.Alone,
	}
	holder, leash, err := h.start()
	if err != nil {
		return nil, fmt.Errorf("start node %s: %w", c.Name, err)
	}
	path := append(append([]string{}, c.Path...),
		"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin")
	n := &Node{
		Name: c.Name, IPv4: c.IPv4, IPv6: c.IPv6, holder: holder, leash: leash, alone: c.Alone,
		env: []string{
			"PATH=" + strings.Join(path, ":"), "HOME=/root", "TMPDIR=/tmp", "LANG=C.UTF-8",
			"GOTRACEBACK=all",
		},
	}
	if err := s.plug(n); err != nil {
		return nil, errors.Join(fmt.Errorf("join node %s: %w", c.Name, err), n.Stop())
	}
	return n, nil
}

// forget removes what an earlier node of the name had beside its disk.
func forget(dir string) error {
	return errors.Join(os.RemoveAll(filepath.Join(dir, "layer")),
		os.RemoveAll(filepath.Join(dir, "root")))
}

// Cut ends the node as a power cut does, with all of its processes; it has to be alone.
func (n *Node) Cut() error {
	if !n.alone {
		return fmt.Errorf("node %s shares its processes with others", n.Name)
	}
	err := n.holder.Process.Kill()
	_ = n.leash.Close()
	_ = n.holder.Wait()
	// The kernel takes its time to end a netns; the cable goes now.
	if port, missing := netlink.LinkByName(n.Name); missing == nil {
		err = errors.Join(err, netlink.LinkDel(port))
	}
	return err
}

// Stop ends the process that holds the node. Its namespaces end with the last
// process in them.
func (n *Node) Stop() error {
	return errors.Join(n.leash.Close(), n.holder.Wait())
}

// File returns where a file of the node is outside of the node.
func (n *Node) File(path string) string {
	return filepath.Join("/proc", fmt.Sprint(n.holder.Process.Pid), "root", path)
}

// Write makes a file in the node, with the folders above it.
func (n *Node) Write(path, text string) error {
	if err := mkdirs(filepath.Dir(n.File(path))); err != nil {
		return err
	}
	return os.WriteFile(n.File(path), []byte(text), 0o644)
}

// Copy copies a program to a place in the node.
func (n *Node) Copy(program, path string) error {
	b, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	if err := mkdirs(filepath.Dir(n.File(path))); err != nil {
		return err
	}
	return os.WriteFile(n.File(path), b, 0o755)
}

// NetNS is the node's own netns.
func (n *Node) NetNS() string {
	return filepath.Join("/proc", fmt.Sprint(n.holder.Process.Pid), "ns/net")
}

// Command returns a command that runs in the node. Its process ID is that of
// the program: what brings it into the node executes it. In a node that is alone
// the program is a child of that, see [Process.PID].
func (n *Node) Command(name string, args ...string) *exec.Cmd {
	argv := []string{fmt.Sprintf("--target=%d", n.holder.Process.Pid), "--net", "--mount", "--uts"}
	if n.alone {
		argv = append(argv, "--ipc", "--pid")
	}
	argv = append(append(argv, "--", name), args...)
	cmd := exec.Command("nsenter", argv...)
	cmd.Env = n.env
	return cmd
}

// Run runs a command in the node and returns what it wrote.
func (n *Node) Run(name string, args ...string) (string, error) {
	out, err := n.Command(name, args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("on %s run %s %s: %w\n%s", n.Name, name, strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// Switch joins nodes. It is a bridge in the caller's netns.
type Switch struct {
	bridge *netlink.Bridge
}

// NewSwitch makes a switch on which the caller has the given address.
func NewSwitch(addr netip.Prefix) (*Switch, error) {
	s := &Switch{bridge: &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "switch"}}}
	if err := netlink.LinkAdd(s.bridge); err != nil {
		return nil, fmt.Errorf("add bridge: %w", err)
	}
	// No rule filters what passes here.
	err := nstest.Sysctl("net/bridge/bridge-nf-call-iptables", "0")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	ip, err := netlink.ParseAddr(addr.String())
	if err != nil {
		return nil, err
	}
	if err := netlink.AddrAdd(s.bridge, ip); err != nil {
		return nil, fmt.Errorf("add address to bridge: %w", err)
	}
	return s, netlink.LinkSetUp(s.bridge)
}

// Close removes the switch.
func (s *Switch) Close() error { return netlink.LinkDel(s.bridge) }

// plug makes the node's eth0.
func (s *Switch) plug(n *Node) error {
	port := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{
			Name: n.Name, MasterIndex: s.bridge.Index, Flags: unix.IFF_UP,
		},
		PeerName:      "eth0",
		PeerNamespace: netlink.NsPid(n.holder.Process.Pid),
	}
	if err := netlink.LinkAdd(port); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(port); err != nil {
		return err
	}
	return nstest.Within(n.NetNS(), func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		for _, p := range []netip.Prefix{n.IPv4, n.IPv6} {
			addr, err := netlink.ParseAddr(p.String())
			if err != nil {
				return err
			}
			if p.Addr().Is6() {
				addr.Flags = unix.IFA_F_NODAD
			}
			if err := netlink.AddrAdd(link, addr); err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(link)
	})
}
