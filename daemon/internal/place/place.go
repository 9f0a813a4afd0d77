// SPDX-License-Identifier: Apache-2.0

// Package place finds out what the container that this process may be in lets it see
// and do. It reads /proc and changes nothing.
package place

import (
	"cmp"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// Options say where to look. The zero value is this process.
type Options struct {
	// Proc is where the proc file system is mounted; empty means /proc.
	Proc string
	// Getenv reads the environment; nil means that there is none.
	Getenv func(string) string
	// NetnsDirs are the directories in which runtimes mount netns.
	NetnsDirs []string
}

// Look looks.
func Look(o Options) api.Place {
	o.Proc = cmp.Or(o.Proc, "/proc")
	if o.Getenv == nil {
		o.Getenv = func(string) string { return "" }
	}
	return api.Place{
		Kubernetes:    o.kubernetes(),
		PIDNamespace:  o.pidNamespace(),
		UserNamespace: o.userNamespace(),
		AppArmor:      o.appArmor(),
		Missing:       o.missing(),
		NetnsDirs:     o.netnsDirs(),
	}
}

func (o *Options) self(name string) string { return filepath.Join(o.Proc, "self", name) }

// kubernetes goes by the variable that every container of a pod has, and by the control
// group that the kubelet makes, which a container may not see.
func (o *Options) kubernetes() bool {
	if o.Getenv("KUBERNETES_SERVICE_HOST") != "" {
		return true
	}
	groups, err := os.ReadFile(o.self("cgroup"))
	return err == nil && strings.Contains(string(groups), "kubepods")
}

// initialPIDNamespace is the inode of the PID namespace that the kernel booted with
// (PROC_PID_INIT_INO).
const initialPIDNamespace = 0xEFFFFFFC

func (o *Options) pidNamespace() api.Sight {
	var st unix.Stat_t
	switch err := unix.Stat(o.self("ns/pid"), &st); {
	case err != nil:
		return api.SightUnknown
	case st.Ino == initialPIDNamespace:
		return api.OfNode
	}
	return api.OfItsOwn
}

// userNamespace goes by the numbers of users: those of the node map all to themselves.
func (o *Options) userNamespace() api.Sight {
	text, err := os.ReadFile(o.self("uid_map"))
	if err != nil {
		return api.SightUnknown
	}
	if strings.Join(strings.Fields(string(text)), " ") == "0 0 4294967295" {
		return api.OfNode
	}
	return api.OfItsOwn
}

// appArmor returns the profile of this process. With another security module the file
// says something else, or cannot be read.
func (o *Options) appArmor() string {
	text, err := os.ReadFile(o.self("attr/apparmor/current"))
	if err != nil {
		return ""
	}
	profile := strings.Trim(string(text), "\x00\n ")
	if profile == "unconfined" {
		return ""
	}
	return profile
}

// wanted are the capabilities that the daemon makes use of, by their numbers.
func wanted() map[int]api.MissingCapability {
	need := func(name, what string) api.MissingCapability {
		return api.MissingCapability{Name: name, For: what, Required: true}
	}
	use := func(name, what string) api.MissingCapability {
		return api.MissingCapability{Name: name, For: what}
	}
	return map[int]api.MissingCapability{
		unix.CAP_NET_ADMIN: need("CAP_NET_ADMIN", "binding queues and arming hooks"),
		unix.CAP_SYS_ADMIN: need("CAP_SYS_ADMIN", "entering the netns of pods"),
		unix.CAP_NET_RAW:   use("CAP_NET_RAW", "telling the ends of rejected flows"),
		unix.CAP_SYS_PTRACE: use("CAP_SYS_PTRACE",
			"seeing which netns the processes of other users are in"),
		unix.CAP_DAC_READ_SEARCH: use("CAP_DAC_READ_SEARCH",
			"reading directories of the runtime that other users own"),
		unix.CAP_DAC_OVERRIDE: use("CAP_DAC_OVERRIDE",
			"writing to directories that other users own"),
		unix.CAP_CHOWN: use("CAP_CHOWN", "giving observe.sock to a group"),
	}
}

// missing returns what is not in the effective set, nil where that cannot be read.
func (o *Options) missing() []api.MissingCapability {
	set, ok := o.effective()
	if !ok {
		return nil
	}
	all := wanted()
	var list []api.MissingCapability
	for n := range unix.CAP_LAST_CAP + 1 {
		if c, is := all[n]; is && set&(1<<n) == 0 {
			list = append(list, c)
		}
	}
	return list
}

// effective returns the effective capabilities, a bit for each.
func (o *Options) effective() (uint64, bool) {
	text, err := os.ReadFile(o.self("status"))
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		if digits, ok := strings.CutPrefix(line, "CapEff:"); ok {
			set, err := strconv.ParseUint(strings.TrimSpace(digits), 16, 64)
			return set, err == nil
		}
	}
	return 0, false
}

// Has reports whether this process has a capability, such as [unix.CAP_SYS_MODULE]. It
// says so where that cannot be told.
func Has(capability int) bool {
	set, ok := (&Options{Proc: "/proc"}).effective()
	return !ok || set&(1<<capability) != 0
}
