// SPDX-License-Identifier: Apache-2.0

package place

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// write makes files below a directory that stands for /proc.
func write(t *testing.T, proc string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(proc, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestContainerOfAPod(t *testing.T) {
	proc, dir := t.TempDir(), t.TempDir()
	write(t, proc, map[string]string{
		"self/cgroup":                "0::/kubepods.slice/kubepods-burstable.slice/x\n",
		"self/uid_map":               "         0     100000      65536\n",
		"self/attr/apparmor/current": "cri-containerd.apparmor.d (enforce)\n",
		"self/ns/pid":                "",
		"self/mountinfo":             "1 0 0:1 / / rw,relatime - overlay overlay rw\n",
		// NET_ADMIN, SYS_ADMIN, CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, NET_RAW.
		"self/status": "Name:\tx\nCapEff:\t0000000000203007\n",
	})
	got := Look(Options{Proc: proc, NetnsDirs: []string{dir, dir, dir + "/none"}})
	want := api.Place{
		Kubernetes: true, PIDNamespace: api.OfItsOwn, UserNamespace: api.OfItsOwn,
		AppArmor: "cri-containerd.apparmor.d (enforce)",
		Missing: []api.MissingCapability{{
			Name: "CAP_SYS_PTRACE",
			For:  "seeing which netns the processes of other users are in",
		}},
		// Without the node's PID namespace, process 1 may be a process of the container.
		NetnsDirs: []api.NetnsDir{{Path: dir, Follows: api.SightUnknown}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What cannot be read is not said to be one or the other.
func TestNothingToSee(t *testing.T) {
	dir := t.TempDir()
	got := Look(Options{Proc: filepath.Join(dir, "none"), NetnsDirs: []string{dir}})
	want := api.Place{
		PIDNamespace: api.SightUnknown, UserNamespace: api.SightUnknown,
		NetnsDirs: []api.NetnsDir{{Path: dir, Follows: api.SightUnknown}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Where process 1 has other mounts, this process is in a container, on a node that is one
// itself, too.
func TestMountsInANestedNode(t *testing.T) {
	for name, tt := range map[string]struct {
		same bool
		want api.Sight
	}{
		"process 1 of the node":      {false, api.OfItsOwn},
		"process 1 of the container": {true, api.SightUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			proc, dir := t.TempDir(), t.TempDir()
			write(t, proc, map[string]string{
				"self/ns/pid": "", "self/ns/mnt": "", "1/ns/other": "",
				"self/mountinfo": "1 0 0:1 / / rw,relatime - overlay overlay rw\n",
			})
			first := "1/ns/other"
			if tt.same {
				first = "self/ns/mnt"
			}
			if err := os.Link(filepath.Join(proc, first), filepath.Join(proc, "1/ns/mnt")); err != nil {
				t.Fatal(err)
			}
			got := Look(Options{Proc: proc, NetnsDirs: []string{dir}}).NetnsDirs
			if len(got) != 1 || got[0].Follows != tt.want {
				t.Errorf("%+v, want %s", got, tt.want)
			}
		})
	}
}

func TestEnvironmentOfAPod(t *testing.T) {
	got := Look(Options{Proc: t.TempDir(), Getenv: func(name string) string {
		return map[string]string{"KUBERNETES_SERVICE_HOST": "10.96.0.1"}[name]
	}})
	if !got.Kubernetes {
		t.Error("the variable that every pod has is not seen")
	}
}

func TestUnconfined(t *testing.T) {
	proc := t.TempDir()
	write(t, proc, map[string]string{"self/attr/apparmor/current": "unconfined\n"})
	if got := Look(Options{Proc: proc}); got.AppArmor != "" {
		t.Errorf("profile %q", got.AppArmor)
	}
}

func TestFollows(t *testing.T) {
	for name, tt := range map[string]struct {
		mounts string
		want   api.Sight
	}{
		"shared":             {"1 0 0:1 / /run/netns rw shared:5 - tmpfs tmpfs rw\n", api.OfNode},
		"slave":              {"1 0 0:1 / /run/netns rw master:5 - tmpfs tmpfs rw\n", api.OfNode},
		"private":            {"1 0 0:1 / /run/netns rw - tmpfs tmpfs rw\n", api.OfItsOwn},
		"only the root":      {"1 0 0:1 / / rw master:1 - tmpfs tmpfs rw\n", api.OfNode},
		"another directory":  {"1 0 0:1 / / rw - x x rw\n2 1 0:1 / /run/net rw master:1 - x x rw\n", api.OfItsOwn},
		"the one above":      {"2 1 0:1 / /run rw master:1 - x x rw\n1 0 0:1 / / rw - x x rw\n", api.OfNode},
		"the nearest counts": {"1 0 0:1 / / rw master:1 - x x rw\n2 1 0:1 / /run/netns rw - x x rw\n", api.OfItsOwn},
		"the last counts": {
			"1 0 0:1 / /run/netns rw - x x rw\n2 1 0:1 / /run/netns rw master:1 - x x rw\n", api.OfNode,
		},
		"nothing":  {"", api.SightUnknown},
		"rubbish":  {"a b c\n - \n1 2 3 4 5 6 7\n", api.SightUnknown},
		"an ID no": {"1 0 0:1 / /run/netns rw propagate_from:2 - x x rw\n", api.OfItsOwn},
	} {
		t.Run(name, func(t *testing.T) {
			if got := follows(tt.mounts, "/run/netns"); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

func FuzzFollows(f *testing.F) {
	f.Add("1 0 0:1 / /run rw shared:5 - tmpfs tmpfs rw\n", "/run/netns")
	f.Add(`1 0 0:1 / /a\040b rw - x x rw`, "/a b")
	f.Fuzz(func(t *testing.T, mounts, dir string) {
		if got := follows(mounts, dir); got == "" {
			t.Errorf("%q of %q: nothing", dir, mounts)
		}
	})
}

// This process' own place can be told here, where /proc is that of Linux.
func TestOwnPlace(t *testing.T) {
	got := Look(Options{NetnsDirs: []string{t.TempDir()}})
	if got.PIDNamespace == api.SightUnknown || got.UserNamespace == api.SightUnknown ||
		len(got.NetnsDirs) != 1 {
		t.Errorf("%+v", got)
	}
	for _, c := range got.Missing {
		if c.Name == "CAP_NET_ADMIN" && Has(unix.CAP_NET_ADMIN) {
			t.Error("CAP_NET_ADMIN is missing, and there")
		}
	}
}
