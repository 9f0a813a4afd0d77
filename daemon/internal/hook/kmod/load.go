// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// modulesDir holds the modules of each kernel, by release.
const modulesDir = "/lib/modules"

// moduleInitCompressed is MODULE_INIT_COMPRESSED_FILE of linux/module.h.
const moduleInitCompressed = 4

// Load loads the module unless it is loaded. With an empty file it is the
// installed one, loaded by modprobe where there is that command; else, and for
// a file of the caller's choice, what the module depends on is loaded first.
// The module is never unloaded by this package.
func Load(file string) error {
	if Loaded() {
		return nil
	}
	if file == "" {
		if modprobe, err := exec.LookPath("modprobe"); err == nil {
			return runModprobe(modprobe)
		}
	}
	release, err := kernelRelease()
	if err != nil {
		return err
	}
	return loadFile(filepath.Join(modulesDir, release), file)
}

func runModprobe(command string) error {
	if out, err := exec.Command(command, "nsqueue").CombinedOutput(); err != nil {
		return fmt.Errorf("modprobe nsqueue: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// Find returns the file that [Load] would load for a file of the caller's choice or, with
// an empty one, the installed module. It loads nothing.
func Find(file string) (string, error) {
	if file != "" {
		_, err := dependencies(file)
		return file, err
	}
	release, err := kernelRelease()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(modulesDir, release)
	index, err := readDep(dir)
	if err == nil {
		file, err = index.installed(dir)
	}
	if err == nil {
		_, err = os.Stat(file)
	}
	return file, err
}

func loadFile(dir, file string) error {
	index, err := readDep(dir)
	if err != nil {
		return err
	}
	if file == "" {
		if file, err = index.installed(dir); err != nil {
			return err
		}
	}
	needs, err := dependencies(file)
	if err != nil {
		return err
	}
	for _, need := range needs {
		if err := index.load(dir, need); err != nil {
			return err
		}
	}
	return initModule(file)
}

// readDep reads what the modules below a directory depend on.
func readDep(dir string) (depIndex, error) {
	text, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return nil, fmt.Errorf("find out what nsqueue.ko depends on: %w", err)
	}
	return parseDep(text), nil
}

// installed returns the file of the module that is installed.
func (x depIndex) installed(dir string) (string, error) {
	entry, ok := x["nsqueue"]
	if !ok {
		return "", fmt.Errorf("nsqueue.ko is not installed below %s: install it, or name the file "+
			"with --kmod-path", dir)
	}
	return filepath.Join(dir, entry.file), nil
}

// depEntry is an entry of modules.dep: its file and, the nearest first, all
// those that it depends on, directly or not.
type depEntry struct {
	file  string
	needs []string
}

// depIndex is modules.dep by module name.
type depIndex map[string]depEntry

// parseDep reads modules.dep: "file: file file…", relative to its directory.
func parseDep(text []byte) depIndex {
	index := make(depIndex)
	for line := range strings.Lines(string(text)) {
		file, needs, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		index[moduleName(file)] = depEntry{file: file, needs: strings.Fields(needs)}
	}
	return index
}

// moduleName is a module's name from that of its file, where '-' may stand for
// '_' and the file may be compressed.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// load loads the module and before it, last ones first, what it needs. One
// that modules.dep does not have is part of the kernel.
func (x depIndex) load(dir, name string) error {
	entry, ok := x[moduleName(name)]
	if !ok {
		return nil
	}
	for _, need := range slices.Backward(entry.needs) {
		if err := initModule(filepath.Join(dir, need)); err != nil {
			return err
		}
	}
	return initModule(filepath.Join(dir, entry.file))
}

// initModule loads one file; a module that is there already is success.
func initModule(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	flags := 0
	if !strings.HasSuffix(file, ".ko") {
		flags = moduleInitCompressed
	}
	err = unix.FinitModule(int(f.Fd()), "", flags)
	if err == nil || errors.Is(err, unix.EEXIST) {
		return nil
	}
	return fmt.Errorf("load %s: %w%s", file, os.NewSyscallError("finit_module", err), advice(err))
}

// advice says what the errors mean that a user can do something about.
func advice(err error) string {
	switch {
	case errors.Is(err, unix.ENOEXEC):
		return " (built for another kernel, or no module: rebuild it for this one)"
	case errors.Is(err, unix.EKEYREJECTED), errors.Is(err, unix.ENOKEY):
		return " (this kernel wants signed modules: see \"Secure Boot\" in the module's README)"
	case errors.Is(err, unix.ENOENT):
		return " (a symbol is missing: a module that it depends on is not loaded)"
	case errors.Is(err, unix.ENOSYS):
		return " (this kernel has no loadable modules: use --hook nft)"
	case errors.Is(err, unix.EPERM):
		return " (needs CAP_SYS_MODULE and a kernel that is not locked down)"
	}
	return ""
}

// dependencies returns the names in the "depends" entry of a module file.
func dependencies(file string) ([]string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read module: %w", err)
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("read module %s: no .modinfo section", file)
	}
	info, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("read module %s: %w", file, err)
	}
	return parseDepends(info), nil
}

// parseDepends finds "depends=a,b" among NUL-terminated strings.
func parseDepends(info []byte) []string {
	for entry := range bytes.SplitSeq(info, []byte{0}) {
		if list, ok := bytes.CutPrefix(entry, []byte("depends=")); ok && len(list) > 0 {
			return strings.Split(string(list), ",")
		}
	}
	return nil
}

func kernelRelease() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", os.NewSyscallError("uname", err)
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}
