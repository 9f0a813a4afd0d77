// SPDX-License-Identifier: Apache-2.0

//go:build vm

package vm

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// guestModules are in every image with all that they depend on, and are loaded
// before the first program. nsqueue.ko is in the image and not loaded.
func guestModules() []string {
	return []string{
		"crc32c_generic", // asked for by name, not by symbol: no dependency says so
		"veth", "bridge", "br_netfilter", "dummy", "vxlan", "macvlan", "tun",
		"nfnetlink_queue", "nf_conntrack", "nf_conntrack_netlink", "nf_nat",
		"nf_defrag_ipv4", "nf_defrag_ipv6",
		"nf_tables", "nft_objref", "nft_queue", "nft_compat", "nft_tproxy", "nft_ct", "nft_hash",
		"nft_nat", "nft_masq", "xt_NFQUEUE",
		"ip_tables", "iptable_filter", "iptable_nat", "ip6_tables", "ip6table_filter",
		"xt_comment", "xt_addrtype", "xt_mark", "xt_conntrack", "xt_MASQUERADE",
		"overlay",
	}
}

// modules are the .ko files of one kernel, by module name.
type modules struct {
	root  string            // below it is lib/modules
	paths map[string]string // name → path below root
}

func findModules(root string) (*modules, error) {
	m := &modules{root: root, paths: map[string]string{}}
	if _, err := os.Stat(filepath.Join(root, "lib/modules")); errors.Is(err, fs.ErrNotExist) {
		return m, nil // all built in
	}
	visit := func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if name, _, found := strings.Cut(d.Name(), ".ko"); found {
			m.paths[strings.ReplaceAll(name, "-", "_")] = path
		}
		return nil
	}
	return m, fs.WalkDir(os.DirFS(root), "lib/modules", visit)
}

// read returns the module as plain ELF, whatever the distribution packed it in.
func (m *modules) read(name string) ([]byte, error) {
	path := filepath.Join(m.root, m.paths[name])
	if strings.HasSuffix(path, ".xz") {
		out, err := exec.Command("xz", "-dc", path).Output()
		if err != nil {
			return nil, fmt.Errorf("unpack %s: %w", path, err)
		}
		return out, nil
	}
	return os.ReadFile(path)
}

// modinfo returns the values of one key of a module's .modinfo section.
func modinfo(ko []byte, key string) ([]string, error) {
	file, err := elf.NewFile(bytes.NewReader(ko))
	if err != nil {
		return nil, fmt.Errorf("read module: %w", err)
	}
	section := file.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("read module: no .modinfo")
	}
	data, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("read module: %w", err)
	}
	var values []string
	for entry := range strings.SplitSeq(string(data), "\x00") {
		if value, found := strings.CutPrefix(entry, key+"="); found {
			values = append(values, value)
		}
	}
	return values, nil
}

// A loadable is a module in the order in which modules can be loaded.
type loadable struct {
	name string
	path string // in the guest
	ko   []byte
	deps []string
}

// closure returns the modules with all that they need, needed ones first. A
// name that is no file of this kernel is built in, or the boot tells.
func (m *modules) closure(names []string) ([]loadable, error) {
	var order []loadable
	seen := map[string]bool{}
	var visit func(name string) error
	visit = func(name string) error {
		if seen[name] || m.paths[name] == "" {
			return nil
		}
		seen[name] = true
		ko, err := m.read(name)
		if err != nil {
			return err
		}
		deps, err := dependencies(ko)
		if err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
		for _, dep := range deps {
			if err := visit(dep); err != nil {
				return err
			}
		}
		path, _, _ := strings.Cut(m.paths[name], ".ko")
		order = append(order, loadable{name, path + ".ko", ko, deps})
		return nil
	}
	for _, name := range names {
		if err := visit(name); err != nil {
			return nil, err
		}
	}
	return order, nil
}

func dependencies(ko []byte) ([]string, error) {
	values, err := modinfo(ko, "depends")
	if err != nil {
		return nil, err
	}
	var deps []string
	for _, value := range values {
		for dep := range strings.SplitSeq(value, ",") {
			if dep != "" {
				deps = append(deps, strings.ReplaceAll(dep, "-", "_"))
			}
		}
	}
	return deps, nil
}

// modulesDep is what depmod would write: each line has a module and all that it
// needs, the nearest first.
func modulesDep(order []loadable, release string) []byte {
	byName := map[string]loadable{}
	for _, mod := range order {
		byName[mod.name] = mod
	}
	var out bytes.Buffer
	for _, mod := range order {
		fmt.Fprintf(&out, "%s:", relativeTo(mod.path, release))
		seen := map[string]bool{}
		for queue := mod.deps; len(queue) > 0; queue = queue[1:] {
			dep, found := byName[queue[0]]
			if !found || seen[dep.name] {
				continue
			}
			seen[dep.name] = true
			fmt.Fprintf(&out, " %s", relativeTo(dep.path, release))
			queue = append(queue, dep.deps...)
		}
		fmt.Fprintln(&out)
	}
	return out.Bytes()
}

func relativeTo(path, release string) string {
	return strings.TrimPrefix(path, "lib/modules/"+release+"/")
}
