// SPDX-License-Identifier: Apache-2.0

//go:build vm

package vm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

// A source says which kernel to boot, and how to call it here.
type source struct {
	name string
	from string // a name of fetch.sh
	arch string // of the guest, as Go calls it
}

// kernels are those of `make test-vm`: the oldest, the next one with long support, and
// the newest that Debian has. README.md and dkms.conf claim no more than these and
// others.
func kernels() []source {
	return []source{
		{"6.1", "6.1", "amd64"},
		{"6.12", "6.12", "amd64"},
		{"newest", "trixie-backports/amd64", "amd64"},
	}
}

// others are those that `make test-kernels` boots besides.
func others() []source {
	return []source{
		{"6.1-rt", "bookworm/rt-amd64", "amd64"},
		{"6.12-rt", "trixie/rt-amd64", "amd64"},
		{"newest-rt", "trixie-backports/rt-amd64", "amd64"},
	}
}

// arm64 are those of `make test-arm64`.
func arm64() []source { return []source{{"arm64", "bookworm/arm64/arm64", "arm64"}} }

// A kernel is what a guest boots and what the module is built for.
type kernel struct {
	name     string // as the tests are called
	arch     string
	release  string // what uname -r says there
	headers  string // KDIR
	root     string // below it is lib/modules, if it has any
	compiler string // below it is the compiler; the machine's own if it is empty
	vmlinuz  string
	busybox  string // not the kernel's, but from the same cache
	applets  string // a busybox that this machine can ask for its applets
	tools    string // below it are programs of the guest's architecture, or the machine's
}

// fetch has the kernel and busybox in the cache when it returns.
func fetch(s source) (*kernel, error) {
	args := []string{s.from}
	if s.arch != runtime.GOARCH {
		args = []string{"--tools", s.arch, s.from}
	}
	files, err := fetchFiles(args...)
	if err != nil {
		return nil, err
	}
	k := &kernel{
		name: s.name, arch: s.arch, headers: files[s.from], compiler: files[s.from+".root"],
		busybox: files["busybox"], applets: files["busybox"], tools: "/",
	}
	if tools, found := files["tools-"+s.arch]; found {
		k.tools, k.busybox = tools, filepath.Join(tools, "bin/busybox")
	}
	k.release = strings.TrimPrefix(filepath.Base(k.headers), "linux-headers-")
	k.root = filepath.Clean(filepath.Join(k.headers, "../../.."))
	k.vmlinuz = filepath.Join(k.root, "boot", "vmlinuz-"+k.release)
	return k, nil
}

// fetchFiles returns what fetch.sh answers: a path for each name.
func fetchFiles(args ...string) (map[string]string, error) {
	cmd := exec.Command("./fetch.sh", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("fetch kernel %s: %w", args, err)
	}
	files := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, path, found := strings.Cut(strings.TrimSpace(line), " ")
		if !found {
			return nil, fmt.Errorf("fetch kernel %s: unexpected answer %q", args, line)
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
		name: "tree", arch: "amd64", release: string(release[1]), headers: tree, root: tree,
		vmlinuz: filepath.Join(tree, "arch/x86/boot/bzImage"),
		busybox: files["busybox"], applets: files["busybox"], tools: "/",
	}, nil
}

// module builds nsqueue.ko for the kernel, and returns its path.
func (k *kernel) module() (string, error) {
	kmod, err := filepath.Abs("../../kmod")
	if err != nil {
		return "", err
	}
	dir := filepath.Join(kmod, "build", k.release)
	args := []string{"make", "-s", "-C", kmod, "KDIR=" + k.headers, "BUILD=" + dir}
	switch {
	case k.compiler != "":
		cache := filepath.Clean(filepath.Join(k.root, ".."))
		args = append([]string{"./inroot.sh", k.compiler, kmod + ":" + cache}, args...)
	case k.arch == "arm64" && k.arch != runtime.GOARCH:
		args = append(args, "ARCH=arm64", "CROSS_COMPILE=aarch64-linux-gnu-")
	}
	if text, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		return "", errors.Join(fmt.Errorf("build nsqueue.ko for %s: %w", k.release, err),
			errors.New(string(text)))
	}
	return filepath.Join(dir, "nsqueue.ko"), nil
}
