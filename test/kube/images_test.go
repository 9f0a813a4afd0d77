// SPDX-License-Identifier: Apache-2.0

//go:build kube

package kube

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/test/nstest"
	"github.com/nsqueue/nsqueue/test/runtimes/image"
)

const (
	// podImage is what the tests' pods run, and what holds sandboxes.
	podImage = "local.test/pod:1"
	// imageName is that of nsqueue's image, with each of imageTags.
	imageName = "local.test/nsqueue"
)

// imageTags are names of the same image: a rollout takes them for different ones.
func imageTags() []string { return []string{"a", "b"} }

// makeImages writes the archives of all images.
func (r *rig) makeImages(t *testing.T) {
	t.Helper()
	r.pack(t, image.Spec{
		Name:     podImage,
		Programs: []string{"/usr/bin/busybox", filepath.Join(r.bin, "test/podtool")},
		Links:    []string{"sh", "cat", "ping", "sleep", "timeout", "touch", "wget", "nslookup", "true"},
		Command:  []string{"/bin/sleep", "1000000"},
	})
	r.pack(t, image.Spec{
		Name:     "local.test/coredns:1",
		Programs: []string{filepath.Join(r.kube, "coredns")},
		Command:  []string{"/bin/coredns", "-conf", "/etc/coredns/Corefile"},
	})
	flanneld := filepath.Join(r.bin, "runtimes/bin/flannel")
	tables := "/usr/sbin/xtables-nft-multi"
	files := libraries(t, flanneld, tables)
	modules, err := filepath.Glob("/usr/lib/*-linux-gnu/xtables/*.so")
	nstest.Must(t, err)
	for _, m := range modules {
		files[m] = m
	}
	for _, name := range []string{"iptables", "iptables-save", "iptables-restore"} {
		files["/sbin/"+name] = tables
		files["/sbin/"+strings.Replace(name, "ip", "ip6", 1)] = tables
	}
	files["/opt/bin/flanneld"] = flanneld
	files["/flannel"] = filepath.Join(r.bin, "cni/flannel")
	r.pack(t, image.Spec{
		Name: "local.test/flannel:1", Programs: []string{"/usr/bin/busybox"},
		Links: []string{"sh", "cp"}, Files: files,
		Command: []string{"/opt/bin/flanneld"},
	})
	out, err := exec.Command(filepath.Join(r.bin, "nsqueued"), "--version").Output()
	nstest.Must(t, err)
	version := strings.TrimSpace(strings.TrimPrefix(string(out), "nsqueued "))
	r.image = "ghcr.io/nsqueue/nsqueue:" + strings.ReplaceAll(version, "+", "_")
	r.archives = append(r.archives, filepath.Join(r.bin, "image/nsqueue-"+version+".tar"))
	r.progress(t, "images are made")
}

// pack writes an image's archive.
func (r *rig) pack(t *testing.T, s image.Spec) {
	t.Helper()
	name := strings.NewReplacer("/", "-", ":", "-").Replace(s.Name) + ".tar"
	f, err := os.Create(filepath.Join(r.work, name))
	nstest.Must(t, err)
	defer f.Close()
	nstest.Must(t, s.Write(f))
	r.archives = append(r.archives, f.Name())
}

// libraries returns what programs load, by where it is.
func libraries(t *testing.T, programs ...string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	path := regexp.MustCompile(`(?m)(?:=> |^\s+)(/\S+)`)
	for _, p := range programs {
		f, err := elf.Open(p)
		nstest.Must(t, err)
		needed, err := f.ImportedLibraries()
		nstest.Must(t, err)
		_ = f.Close()
		if len(needed) == 0 { // linked statically
			continue
		}
		out, err := exec.Command("ldd", p).CombinedOutput()
		nstest.Must(t, err)
		for _, match := range path.FindAllStringSubmatch(string(out), -1) {
			found[match[1]] = match[1]
		}
	}
	return found
}
