// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// kernel says what the running kernel lacks. The daemon has tried it out. Where no
// daemon answers, perhaps because it cannot start, only the options that the kernel
// was built with can tell.
func (e *examination) kernel() {
	release, err := e.release()
	if err != nil {
		e.notChecked(checkKernel, "", err)
		return
	}
	if !e.reached {
		e.kernelOptions(release)
		return
	}
	for _, f := range e.status.Hook.Flaws {
		e.add(Warning, checkKernel, "", f.What, f.Remedy)
	}
	if len(e.status.Hook.Flaws) == 0 {
		e.ok(checkKernel, "", "Linux %s has everything that nsqueued uses", release)
	}
}

func (e *examination) release() (string, error) {
	text, err := os.ReadFile(filepath.Join(e.Proc, "sys/kernel/osrelease"))
	return strings.TrimSpace(string(text)), err
}

// feature is what nsqueued cannot do without: an option, or those after it.
type feature struct {
	option, instead string
	// since is the version from which on it is in every kernel, and hookOnly says
	// that the kernel module does without it.
	since    [2]int
	hookOnly bool
}

func features() []feature {
	return []feature{
		{option: "NETFILTER_NETLINK_QUEUE"},
		{option: "NF_TABLES", hookOnly: true},
		{option: "NF_TABLES_INET", hookOnly: true},
		{option: "NFT_OBJREF", hookOnly: true, since: [2]int{6, 2}},
		{option: "NFT_TPROXY", hookOnly: true},
		{
			option: "NFT_QUEUE", hookOnly: true,
			instead: "NFT_COMPAT NETFILTER_XT_TARGET_NFQUEUE",
		},
	}
}

// kernelOptions compares what the kernel was built with to what is needed.
func (e *examination) kernelOptions(release string) {
	if !atLeast(release, 5, 14) {
		e.add(Wrong, checkKernel, "", "Linux "+release+" is too old: it has no netns cookies",
			"Use Linux 5.14 or newer.")
		return
	}
	path, text, err := e.config(release)
	if err != nil {
		e.notChecked(checkKernel, path, err)
		return
	}
	k := &kernelConfig{text: text, release: release, root: e.Root}
	_, err = os.Stat(filepath.Join(e.Root, "/sys/module/nsqueue"))
	loaded := err == nil
	var missing []string
	for _, f := range features() {
		needed := !f.hookOnly || !loaded
		if f.since != [2]int{} && atLeast(release, f.since[0], f.since[1]) {
			needed = false
		}
		if needed && !k.has(f.option) && (f.instead == "" || !k.has(f.instead)) {
			missing = append(missing, f.name())
		}
	}
	switch {
	case missing != nil:
		e.add(Wrong, checkKernel, path,
			"Linux "+release+" lacks "+strings.Join(missing, ", "),
			"Use a kernel that has them, or install the package with the rest of its modules "+
				"(such as linux-modules-extra). With the kernel module nsqueue.ko, "+
				"CONFIG_NETFILTER_NETLINK_QUEUE alone is enough.")
	case loaded:
		e.ok(checkKernel, path, "Linux %s has what nsqueued needs, and nsqueue.ko is loaded",
			release)
	default:
		e.ok(checkKernel, path, "Linux %s has what nsqueued needs for its nftables hook", release)
	}
}

func (f *feature) name() string {
	name := "CONFIG_" + f.option
	if f.instead != "" {
		name += " (or CONFIG_" + strings.ReplaceAll(f.instead, " ", " and CONFIG_") + ")"
	}
	return name
}

// config returns the options of the kernel and the file that has them. A kernel
// tells them itself, or distributions put them beside it.
func (e *examination) config(release string) (path string, text []byte, err error) {
	path = filepath.Join(e.Proc, "config.gz")
	packed, err := os.ReadFile(path)
	if err == nil {
		text, err = unpack(packed)
		return path, text, err
	}
	for _, p := range []string{"/boot/config-" + release, "/lib/modules/" + release + "/config"} {
		path = filepath.Join(e.Root, p)
		text, err = os.ReadFile(path)
		if !errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	return path, text, err
}

// maxConfig is far more than the options of any kernel.
const maxConfig = 16 << 20

func unpack(packed []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("unpack kernel options: %w", err)
	}
	return io.ReadAll(io.LimitReader(r, maxConfig))
}

// kernelConfig is what the kernel was built with.
type kernelConfig struct {
	text          []byte
	release, root string
}

// has says whether all of the options are there. What is a module must be
// installed, too: distributions leave some to another package.
func (k *kernelConfig) has(options string) bool {
	for option := range strings.FieldsSeq(options) {
		switch value := k.value(option); {
		case value == "y":
		case value == "m" && k.installed(option):
		default:
			return false
		}
	}
	return true
}

func (k *kernelConfig) value(option string) string {
	for line := range bytes.Lines(k.text) {
		value, ok := bytes.CutPrefix(line, []byte("CONFIG_"+option+"="))
		if ok {
			return string(bytes.TrimSpace(value))
		}
	}
	return ""
}

// installed says whether the module of an option is. A list that cannot be read
// proves nothing.
func (k *kernelConfig) installed(option string) bool {
	name, ok := map[string]string{
		"NETFILTER_NETLINK_QUEUE": "nfnetlink_queue", "NETFILTER_XT_TARGET_NFQUEUE": "xt_NFQUEUE",
	}[option]
	if !ok {
		name = strings.ToLower(option) // such as nft_queue
	}
	list, err := os.ReadFile(filepath.Join(k.root, "/lib/modules", k.release, "modules.dep"))
	return err != nil || bytes.Contains(list, []byte("/"+name+".ko"))
}

// atLeast reports whether a release is that version or a newer one. One that
// cannot be read is not too old.
func atLeast(release string, major, minor int) bool {
	var x, y int
	if n, _ := fmt.Sscanf(release, "%d.%d", &x, &y); n != 2 {
		return true
	}
	return x > major || x == major && y >= minor
}
