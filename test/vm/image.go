// SPDX-License-Identifier: Apache-2.0

//go:build vm

package vm

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// A kernel is what a guest boots and what the module is built for.
type kernel struct {
	series  string // 6.12
	release string // what uname -r says there
	headers string // KDIR
	root    string // below it is lib/modules, if it has any
	vmlinuz string
	busybox string // not the kernel's, but from the same cache
}

// fetch has the kernel and busybox in the cache when it returns.
func fetch(series string) (*kernel, error) {
	files, err := fetchFiles(series)
	if err != nil {
		return nil, err
	}
	k := &kernel{series: series, headers: files[series], busybox: files["busybox"]}
	k.release = strings.TrimPrefix(filepath.Base(k.headers), "linux-headers-")
	k.root = filepath.Clean(filepath.Join(k.headers, "../../.."))
	k.vmlinuz = filepath.Join(k.root, "boot", "vmlinuz-"+k.release)
	return k, nil
}

// fetchFiles returns what fetch.sh answers: a path for each name.
func fetchFiles(series ...string) (map[string]string, error) {
	cmd := exec.Command("./fetch.sh", series...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("fetch kernel %s: %w", series, err)
	}
	files := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, path, found := strings.Cut(strings.TrimSpace(line), " ")
		if !found {
			return nil, fmt.Errorf("fetch kernel %s: unexpected answer %q", series, line)
		}
		files[name] = path
	}
	return files, nil
}

var utsRelease = regexp.MustCompile(`UTS_RELEASE "(.*)"`)

// fromTree is a kernel built by hand, e.g. with debug.config: a source tree
// after `make bzImage modules`, all that the guest needs built in.
func fromTree(tree string) (*kernel, error) {
	files, err := fetchFiles()
	if err != nil {
		return nil, err
	}
	header, err := os.ReadFile(filepath.Join(tree, "include/generated/utsrelease.h"))
	if err != nil {
		return nil, fmt.Errorf("read kernel tree: %w", err)
	}
	release := utsRelease.FindSubmatch(header)
	if release == nil {
		return nil, fmt.Errorf("read kernel tree %s: no release", tree)
	}
	return &kernel{
		series:  "tree",
		release: string(release[1]),
		headers: tree,
		root:    tree,
		vmlinuz: filepath.Join(tree, "arch/x86/boot/bzImage"),
		busybox: files["busybox"],
	}, nil
}

// writeImage makes the guest's root: busybox, the host's ip and nft, modules,
// nsqueue.ko, the init and the programs it will run.
func (k *kernel) writeImage(path, ko string, bin map[string]string, programs []program) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	buffered := bufio.NewWriter(file)
	c := newCPIO(buffered)
	c.console()
	for _, dir := range []string{"proc", "sys", "run", "tmp", "etc", "var/lib", "root"} {
		c.dir(dir)
	}
	steps := []func() error{
		func() error { return k.addBusybox(c) },
		func() error {
			return addHostTools(c, "/usr/sbin/ip", "/usr/sbin/nft", "/usr/sbin/iptables")
		},
		func() error { return addTree(c, "../../bin", guestBin, builtPrograms()...) },
		func() error { return addTree(c, "../../conflist", guestLists, "*.conflist") },
		func() error { return k.addModules(c, ko) },
		func() error { return addPrograms(c, bin, programs) },
		c.close,
		buffered.Flush,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("make image: %w", err)
		}
	}
	return file.Close()
}

func (k *kernel) addBusybox(c *cpio) error {
	data, err := os.ReadFile(k.busybox)
	if err != nil {
		return err
	}
	list, err := exec.Command(k.busybox, "--list").Output()
	if err != nil {
		return fmt.Errorf("list busybox applets: %w", err)
	}
	c.file("bin/busybox", data)
	c.link("sbin", "bin")
	for applet := range strings.FieldsSeq(string(list)) {
		// The real one is in the image: busybox's knows no netns and no veth.
		if applet != "busybox" && applet != "ip" {
			c.link("bin/"+applet, "busybox")
		}
	}
	return nil
}

// addHostTools copies programs with the shared libraries that ldd names.
func addHostTools(c *cpio, tools ...string) error {
	added := map[string]bool{}
	for _, tool := range tools {
		out, err := exec.Command("ldd", tool).Output()
		if err != nil {
			return fmt.Errorf("ldd %s: %w", tool, err)
		}
		files := []string{tool}
		for word := range strings.FieldsSeq(string(out)) {
			if strings.HasPrefix(word, "/") {
				files = append(files, word)
			}
		}
		for _, file := range files {
			if added[file] {
				continue
			}
			added[file] = true
			data, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			c.file(strings.TrimPrefix(file, "/"), data)
		}
	}
	return nil
}

func (k *kernel) addModules(c *cpio, ko string) error {
	found, err := findModules(k.root)
	if err != nil {
		return err
	}
	order, err := found.closure(guestModules())
	if err != nil {
		return err
	}
	own, err := os.ReadFile(ko)
	if err != nil {
		return err
	}
	deps, err := dependencies(own)
	if err != nil {
		return err
	}
	var load bytes.Buffer
	for _, mod := range order {
		fmt.Fprintf(&load, "/%s\n", mod.path)
	}
	c.file("etc/modules-load", load.Bytes())
	ours := loadable{"nsqueue", "lib/modules/" + k.release + "/updates/nsqueue.ko", own, deps}
	order = append(order, ours)
	for _, mod := range order {
		c.file(mod.path, mod.ko)
	}
	c.file("lib/modules/"+k.release+"/modules.dep", modulesDep(order, k.release))
	return nil
}

// Where the guest has the built programs and the conflists, and what its init
// is called in /bin.
const (
	guestBin   = "opt/nsqueue/bin"
	guestLists = "opt/nsqueue/conflist"
	guestInit  = "vm-init"
)

// builtPrograms are what guests run besides the tests.
func builtPrograms() []string {
	return []string{"nsqueue*", "test/nsqueued-faults", "cni/[a-z]*"}
}

// addTree copies the files of a folder that match.
func addTree(c *cpio, from, to string, patterns ...string) error {
	var files []string
	for _, pattern := range patterns {
		matches, err := filepath.Glob(filepath.Join(from, pattern))
		if err != nil {
			return err
		}
		if len(matches) == 0 {
			return fmt.Errorf("no %s in %s: use `make test-vm`, which builds it", pattern, from)
		}
		files = append(files, matches...)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, file)
		if err != nil {
			return err
		}
		c.file(filepath.Join(to, name), data)
	}
	return nil
}

// addPrograms copies the built programs to /bin, their init, and the list of
// those that the init runs.
func addPrograms(c *cpio, bin map[string]string, programs []program) error {
	for name, path := range bin {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		c.file("bin/"+name, data)
	}
	c.link("init", "bin/"+guestInit)
	list, err := json.Marshal(programs)
	if err != nil {
		return err
	}
	c.file("etc/programs.json", list)
	return nil
}
