// SPDX-License-Identifier: Apache-2.0

//go:build release

package release

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// imageName is that of the image, without its tag.
const imageName = "ghcr.io/nsqueue/nsqueue"

// wantRoot is all that the image has.
const wantRoot = `drwxr-xr-x etc/
-rw-r--r-- etc/group
-rw-r--r-- etc/passwd
drwxr-xr-x run/
dtrwxrwxrwx tmp/
drwxr-xr-x usr/
drwxr-xr-x usr/local/
drwxr-xr-x usr/local/bin/
-rwxr-xr-x usr/local/bin/nsqueue
-rwxr-xr-x usr/local/bin/nsqueuectl
-rwxr-xr-x usr/local/bin/nsqueued
drwxr-xr-x usr/share/
drwxr-xr-x usr/share/doc/
drwxr-xr-x usr/share/doc/nsqueue/
-rw-r--r-- usr/share/doc/nsqueue/LICENSE
-rw-r--r-- usr/share/doc/nsqueue/THIRD-PARTY-NOTICES
-rw-r--r-- usr/share/doc/nsqueue/nsqueue.spdx.json
drwxr-xr-x var/
Lrwxrwxrwx var/run -> /run
`

// image is what a program that is not ours has read of an image.
type image struct {
	config imageConfig
	// entries have a line for each file, with mode and owner; files their contents.
	entries string
	files   map[string][]byte
}

type imageConfig struct {
	Architecture, OS string
	Config           struct {
		Entrypoint, Env, Cmd []string
		WorkingDir, User     string
		Labels               map[string]string
	}
}

// checkImage looks at the image of a release, for each architecture.
func (p *published) checkImage(t *testing.T) {
	archive := filepath.Join(p.files(), "nsqueue-"+p.version+"-image.tar")
	p.checkMadeAlone(t, archive)
	for _, arch := range []string{"amd64", "arm64"} {
		i := p.readImage(t, arch, "oci-archive:"+archive)
		if i.entries != wantRoot {
			t.Errorf("for %s (-want +got):\n%s", arch, cmp.Diff(wantRoot, i.entries))
		}
		if i.config.Architecture != arch || i.config.OS != "linux" {
			t.Errorf("for %s is one for %s/%s", arch, i.config.OS, i.config.Architecture)
		}
		p.checkImageConfig(t, i)
		p.checkImagePrograms(t, i, arch)
		tag := p.version
		if arch == "arm64" {
			tag += "-arm64"
		}
		loaded := p.readImage(t, arch, fmt.Sprintf("docker-archive:%s:%s:%s", archive, imageName, tag))
		if diff := cmp.Diff(i.entries, loaded.entries); diff != "" || !maps.EqualFunc(i.files, loaded.files, bytes.Equal) {
			t.Errorf("docker load gets another root for %s:\n%s", arch, diff)
		}
	}
	p.checkDockerfile(t, p.readImage(t, "amd64", "oci-archive:"+archive))
}

// checkMadeAlone wants `make image` to make the image of the release.
func (p *published) checkMadeAlone(t *testing.T, archive string) {
	t.Helper()
	if out, err := p.run(t, "make", "image", "VERSION="+p.version); err != nil {
		t.Fatalf("make image: %v\n%s", err, out)
	}
	of, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	alone, err := os.ReadFile(filepath.Join(p.dir, "bin/image/nsqueue-"+p.version+".tar"))
	if err != nil || !bytes.Equal(of, alone) {
		t.Errorf("make image makes another image than make release, %v", err)
	}
}

func (p *published) checkImageConfig(t *testing.T, i *image) {
	t.Helper()
	c := i.config.Config
	if diff := cmp.Diff([]string{"/usr/local/bin/nsqueued"}, c.Entrypoint); diff != "" || c.Cmd != nil || c.User != "" {
		t.Errorf("runs %v as %q:\n%s", c.Cmd, c.User, diff)
	}
	for label, want := range map[string]string{
		"version": p.version, "revision": p.git(t, "rev-parse", "HEAD"), "licenses": "Apache-2.0",
	} {
		if got := c.Labels["org.opencontainers.image."+label]; got != want {
			t.Errorf("label %s is %q, want %q", label, got, want)
		}
	}
}

// checkImagePrograms wants the programs of the release's archive. They need no
// library, and the image lists what they consist of.
func (p *published) checkImagePrograms(t *testing.T, i *image, arch string) {
	t.Helper()
	name := "nsqueue-" + p.version + "-linux-" + arch
	dir := filepath.Join(p.unpack(t, name), name)
	for _, program := range []string{"nsqueue", "nsqueued", "nsqueuectl"} {
		body := i.files["usr/local/bin/"+program]
		want, err := os.ReadFile(filepath.Join(dir, "bin", program))
		if err != nil || !bytes.Equal(body, want) {
			t.Errorf("%s for %s is another than in the archive: %v", program, arch, err)
		}
		f, err := elf.NewFile(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
			t.Errorf("%s for %s is not static", program, arch)
		}
	}
	const doc = "usr/share/doc/nsqueue/"
	notices, err := os.ReadFile(filepath.Join(dir, "THIRD-PARTY-NOTICES"))
	if err != nil || !bytes.Equal(i.files[doc+"THIRD-PARTY-NOTICES"], notices) {
		t.Errorf("notices for %s are others than in the archive: %v", arch, err)
	}
	listed := spdxPackages(t, i.files[doc+"nsqueue.spdx.json"])
	for _, module := range p.listed(t, name) {
		if path, version, _ := strings.Cut(module, " "); path != "std" &&
			!strings.HasPrefix(path, "github.com/nsqueue/") && !slices.Contains(listed, path+" "+version) {
			t.Errorf("the list in the image for %s lacks %s", arch, module)
		}
	}
}

// spdxPackages returns the packages of a list, each with its version.
func spdxPackages(t *testing.T, list []byte) []string {
	t.Helper()
	var d struct {
		SPDXVersion string `json:"spdxVersion"`
		Packages    []struct{ Name, VersionInfo string }
	}
	if err := json.Unmarshal(list, &d); err != nil || d.SPDXVersion != "SPDX-2.3" {
		t.Fatalf("SPDX version %q: %v", d.SPDXVersion, err)
	}
	var all []string
	for _, p := range d.Packages {
		all = append(all, p.Name+" "+p.VersionInfo)
	}
	return all
}

// readImage has skopeo read the image of an architecture.
func (p *published) readImage(t *testing.T, arch, source string) *image {
	t.Helper()
	dir := t.TempDir()
	out, err := p.run(t, "skopeo", "--insecure-policy", "--override-arch", arch, "copy", source, "dir:"+dir)
	if err != nil {
		t.Fatalf("read %s: %v\n%s", source, err, out)
	}
	var manifest struct {
		Config struct{ Digest string }
		Layers []struct{ Digest string }
	}
	blob := func(digest string) []byte {
		body, err := os.ReadFile(filepath.Join(dir, strings.TrimPrefix(digest, "sha256:")))
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	i := &image{files: make(map[string][]byte)}
	if err := json.Unmarshal(blob("manifest.json"), &manifest); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(blob(manifest.Config.Digest), &i.config); err != nil {
		t.Fatal(err)
	}
	if len(manifest.Layers) != 1 {
		t.Fatalf("%s has %d layers", source, len(manifest.Layers))
	}
	i.readLayer(t, blob(manifest.Layers[0].Digest))
	return i
}

// readLayer notes what is in a layer, compressed or not.
func (i *image) readLayer(t *testing.T, body []byte) {
	t.Helper()
	var r io.Reader = bytes.NewReader(body)
	if z, err := gzip.NewReader(bytes.NewReader(body)); err == nil {
		r = z
	}
	var entries strings.Builder
	for a := tar.NewReader(r); ; {
		h, err := a.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&entries, "%v %s", h.FileInfo().Mode(), h.Name)
		if h.Linkname != "" {
			fmt.Fprintf(&entries, " -> %s", h.Linkname)
		}
		if h.Uid != 0 || h.Gid != 0 {
			fmt.Fprintf(&entries, " of %d:%d", h.Uid, h.Gid)
		}
		entries.WriteByte('\n')
		if i.files[h.Name], err = io.ReadAll(a); err != nil {
			t.Fatal(err)
		}
	}
	i.entries = entries.String()
}

// checkDockerfile builds the image by the Dockerfile: both have the same root, and
// run the same. Where the Dockerfile wants Go's image, it gets this machine's Go.
func (p *published) checkDockerfile(t *testing.T, want *image) {
	t.Helper()
	work := t.TempDir()
	golang := filepath.Join(work, "golang")
	volumes := p.machineGo(t, golang)
	buildah := func(args ...string) {
		t.Helper()
		args = append([]string{
			"--root", filepath.Join(work, "store"), "--runroot", filepath.Join(work, "run"),
			"--storage-driver", "vfs",
		}, args...)
		if out, err := p.run(t, "buildah", args...); err != nil {
			t.Fatalf("buildah %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	buildah("bud", "--isolation", "chroot", "-t", "localhost/golang", golang)
	l := func(name string) string { return want.config.Config.Labels["org.opencontainers.image."+name] }
	buildah(append(append([]string{"bud", "--isolation", "chroot", "--pull-never"}, volumes...),
		"--build-arg", "GO_IMAGE=localhost/golang", "--build-arg", "TARGETARCH=amd64",
		"--build-arg", "VERSION="+p.version, "--build-arg", "REVISION="+l("revision"),
		"--build-arg", "CREATED="+l("created"), "-f", filepath.Join(p.dir, "deploy/image/Dockerfile"),
		"-t", "localhost/nsqueue", p.dir)...)
	archive := "oci-archive:" + filepath.Join(work, "built.tar")
	buildah("push", "localhost/nsqueue", archive)
	got := p.readImage(t, "amd64", archive)
	if diff := cmp.Diff(want.entries, got.entries); diff != "" {
		t.Errorf("the Dockerfile's root (-make image, +Dockerfile):\n%s", diff)
	}
	for name, body := range want.files {
		if !bytes.Equal(got.files[name], body) {
			t.Errorf("the Dockerfile makes another %s", name)
		}
	}
	delete(got.config.Config.Labels, "io.buildah.version")
	if diff := cmp.Diff(want.config, got.config); diff != "" {
		t.Errorf("the Dockerfile's settings (-make image, +Dockerfile):\n%s", diff)
	}
}

// machineGo makes the context of an image that is empty but for places where this
// machine's programs, and Go's caches, are mounted. It returns how they are.
func (p *published) machineGo(t *testing.T, dir string) (volumes []string) {
	t.Helper()
	env := func(name string) string {
		out, err := p.run(t, "go", "env", name)
		if err != nil {
			t.Fatalf("go env %s: %v\n%s", name, err, out)
		}
		return strings.TrimSpace(out)
	}
	context := &checkout{dir: dir}
	context.write(t, "Dockerfile", "FROM scratch\nENV PATH=/go/root/bin:/usr/bin GOMODCACHE=/go/pkg/mod "+
		"GOCACHE=/go/cache GOPROXY=off\nCOPY root /\n")
	for path, at := range map[string]string{
		"/usr": "/usr:ro", "/etc/alternatives": "/etc/alternatives:ro", env("GOROOT"): "/go/root:ro",
		env("GOMODCACHE"): "/go/pkg/mod", env("GOCACHE"): "/go/cache",
	} {
		place, _, _ := strings.Cut(at, ":")
		context.write(t, filepath.Join("root", place, ".mounted-over"), "")
		volumes = append(volumes, "--volume="+path+":"+at)
	}
	context.write(t, "root/tmp/.empty", "")
	for _, name := range []string{"bin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+name, filepath.Join(dir, "root", name)); err != nil {
			t.Fatal(err)
		}
	}
	return volumes
}
