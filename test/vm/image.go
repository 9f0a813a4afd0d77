// SPDX-License-Identifier: Apache-2.0

//go:build vm

package vm

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

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
			return addTools(c, k.tools, "/usr/sbin/ip", "/usr/sbin/nft", "/usr/sbin/iptables-nft")
		},
		func() error { return k.addBuilt(c) },
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
	c.file("bin/busybox", data)
	c.link("sbin", "bin")
	list, err := exec.Command(k.applets, "--list").Output()
	if err != nil {
		return fmt.Errorf("list busybox applets: %w", err)
	}
	for applet := range strings.FieldsSeq(string(list)) {
		// The real one is in the image: busybox's knows no netns and no veth.
		if applet != "busybox" && applet != "ip" {
			c.link("bin/"+applet, "busybox")
		}
	}
	return nil
}

// addTools copies programs, and the shared libraries that they and these need.
func addTools(c *cpio, root string, tools ...string) error {
	added := map[string]bool{}
	var add func(file string) error
	add = func(file string) error {
		if added[file] {
			return nil
		}
		added[file] = true
		data, err := readBelow(root, file)
		if errors.Is(err, fs.ErrNotExist) { // a package may have it below / still
			data, err = readBelow(root, strings.TrimPrefix(file, "/usr"))
		}
		if err != nil {
			return err
		}
		c.file(strings.TrimPrefix(file, "/"), data)
		needs, err := libraries(root, data)
		for _, need := range needs {
			err = errors.Join(err, add(need))
		}
		return err
	}
	for _, tool := range tools {
		if err := add(tool); err != nil {
			return fmt.Errorf("add %s: %w", tool, err)
		}
	}
	c.link("usr/sbin/iptables", "iptables-nft")
	return nil
}

// readBelow reads a file of the tree below root. The links of that tree mean its own files.
func readBelow(root, file string) ([]byte, error) {
	const links = 8 // one after the other
	for range links {
		to, err := os.Readlink(filepath.Join(root, file))
		if err != nil { // no link
			break
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join("/", filepath.Dir(file), to)
		}
		file = to
	}
	return os.ReadFile(filepath.Join(root, file))
}

// libraries returns the files that an ELF file names: its loader, and libraries.
func libraries(root string, data []byte) (files []string, err error) {
	file, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	names, err := file.ImportedLibraries()
	for _, name := range names {
		found, findErr := findLibrary(root, name)
		err = errors.Join(err, findErr)
		files = append(files, found)
	}
	if interp := file.Section(".interp"); interp != nil {
		path, readErr := interp.Data()
		err = errors.Join(err, readErr)
		files = append(files, string(bytes.TrimRight(path, "\x00")))
	}
	return files, err
}

func findLibrary(root, name string) (string, error) {
	for _, dir := range []string{"/lib/*-linux-gnu", "/usr/lib/*-linux-gnu", "/lib", "/usr/lib"} {
		found, err := filepath.Glob(filepath.Join(root, dir, name))
		if err != nil {
			return "", err
		}
		if len(found) > 0 {
			return "/" + strings.TrimPrefix(strings.TrimPrefix(found[0], root), "/"), nil
		}
	}
	return "", fmt.Errorf("no library %s below %s", name, root)
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

// addBuilt copies what guests run besides the tests.
func (k *kernel) addBuilt(c *cpio) error {
	built := "../../bin"
	if k.arch != runtime.GOARCH {
		built = filepath.Join(built, k.arch)
	}
	return addTree(c, built, guestBin, "nsqueue*", "test/nsqueued-faults", "cni/[a-z]*")
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
