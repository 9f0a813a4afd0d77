// SPDX-License-Identifier: Apache-2.0

//go:build release

package release

import (
	"debug/buildinfo"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

// published is a release that was made, and its version.
type published struct {
	*checkout
	version string
}

// files is where it is.
func (p *published) files() string { return filepath.Join(p.dir, "bin/release", p.version) }

// unpack returns where it has unpacked an archive.
func (p *published) unpack(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	archive := filepath.Join(p.files(), name+".tar.gz")
	if out, err := p.run(t, "tar", "-xzf", archive, "-C", dir); err != nil {
		t.Fatalf("unpack %s: %v\n%s", name, err, out)
	}
	return dir
}

func (p *published) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(p.files(), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// publish makes a release of the commit that is tested, in a clone.
func publish(t *testing.T, umask string, env ...string) *published {
	t.Helper()
	p := &published{checkout: &checkout{dir: filepath.Join(t.TempDir(), "umask"+umask), env: env}}
	source, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	outside := &checkout{dir: source}
	outside.git(t, "clone", "-q", "--no-hardlinks", source, p.dir)
	p.version = moduleVersion(t)
	if out, err := p.run(t, "sh", "-c", "mkdir bin && ln -s \""+tools(t)+"\" bin/tools && umask "+
		umask+" && make release VERSION="+p.version); err != nil {
		t.Fatalf("make release: %v\n%s", err, out)
	}
	return p
}

// tools is where the tools are that were fetched before.
func tools(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join(root, "bin/tools"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// moduleVersion is the only version that may be released.
func moduleVersion(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "kmod/dkms.conf"))
	if err != nil {
		t.Fatal(err)
	}
	match := regexp.MustCompile(`PACKAGE_VERSION="(.+)"`).FindSubmatch(text)
	if match == nil {
		t.Fatal("kmod/dkms.conf has no version")
	}
	return string(match[1])
}

// TestRelease makes a release twice, in other directories and with other settings
// of the user. Both have the same bytes, and what belongs into a release.
func TestRelease(t *testing.T) {
	p := publish(t, "022", "TZ=UTC")
	again := publish(t, "077", "TZ=Asia/Tokyo", "LC_ALL=C.UTF-8", "GOFLAGS=-buildvcs=true", "GOAMD64=v3")
	sums := p.read(t, "SHA256SUMS")
	if other := again.read(t, "SHA256SUMS"); other != sums {
		t.Errorf("two releases of a commit differ:\n%s\n%s", sums, other)
	}
	if out, err := p.run(t, "sh", "-c", "cd "+p.files()+" && sha256sum -c SHA256SUMS"); err != nil {
		t.Errorf("checksums: %v\n%s", err, out)
	}
	for _, arch := range []string{"amd64", "arm64"} {
		t.Run(arch, func(t *testing.T) { p.checkPrograms(t, arch) })
	}
	t.Run("plugin", p.checkPlugin)
	t.Run("image", p.checkImage)
	t.Run("source", p.checkSource)
	t.Run("module", p.checkModule)
}

// checkPrograms looks at the archive of an architecture.
func (p *published) checkPrograms(t *testing.T, arch string) {
	name := "nsqueue-" + p.version + "-linux-" + arch
	dir := filepath.Join(p.unpack(t, name), name)
	for _, file := range []string{
		"LICENSE", "CHANGELOG.md", "README.md", "SECURITY.md", "conflist/10-flannel.conflist",
		"deploy/systemd/nsqueued.service", "deploy/systemd/kmod.conf", "docs/install.md",
	} {
		if info, err := os.Stat(filepath.Join(dir, file)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", file, err)
		}
	}
	for _, program := range []string{"nsqueue", "nsqueued", "nsqueuectl"} {
		info, err := buildinfo.ReadFile(filepath.Join(dir, "bin", program))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(info.Settings, debug.BuildSetting{Key: "GOARCH", Value: arch}) {
			t.Errorf("%s is not built for %s: %v", program, arch, info.Settings)
		}
		p.checkModules(t, name, info, filepath.Join(dir, "THIRD-PARTY-NOTICES"))
	}
	if arch == "amd64" {
		p.checkInstalled(t, dir)
	}
}

// listed returns the modules of the list of an archive.
func (p *published) listed(t *testing.T, name string) []string {
	t.Helper()
	var list struct {
		BOMFormat  string `json:"bomFormat"`
		Components []struct{ Name, Version string }
	}
	if err := json.Unmarshal([]byte(p.read(t, name+".cdx.json")), &list); err != nil {
		t.Fatal(err)
	}
	if list.BOMFormat != "CycloneDX" {
		t.Errorf("format %q", list.BOMFormat)
	}
	var modules []string
	for _, c := range list.Components {
		modules = append(modules, c.Name+" "+c.Version)
	}
	return modules
}

// checkInstalled installs from the archive, and asks each program what it is.
func (p *published) checkInstalled(t *testing.T, dir string) {
	t.Helper()
	dest := t.TempDir()
	install := exec.CommandContext(t.Context(), filepath.Join(dir, "hack/install.sh"))
	install.Env = append(os.Environ(), "DESTDIR="+dest, "SYSTEMD_UNIT_DIR=/units")
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("install: %v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(dest, "units/nsqueued.service")); err != nil {
		t.Error(err)
	}
	for _, program := range []string{"sbin/nsqueued", "bin/nsqueuectl"} {
		p.wantProgramVersion(t, filepath.Join(dest, "usr/local", program), p.version)
	}
}

func (c *checkout) wantProgramVersion(t *testing.T, program, version string) {
	t.Helper()
	out, err := c.run(t, program, "--version")
	if want := filepath.Base(program) + " " + version + "\n"; err != nil || out != want {
		t.Errorf("%s says %q, %v; want %q", program, out, err, want)
	}
}

// checkPlugin looks at the archives of kubectl-nsqueue, and at krew's manifest of them.
func (p *published) checkPlugin(t *testing.T) {
	manifest := p.read(t, "kubectl-nsqueue-"+p.version+"-krew.yaml")
	if strings.Contains(manifest, "@") {
		t.Errorf("the manifest has places that nothing was written into:\n%s", manifest)
	}
	for _, platform := range []string{"darwin-amd64", "darwin-arm64", "linux-amd64", "linux-arm64"} {
		name := "kubectl-nsqueue-" + p.version + "-" + platform
		sum, _, _ := strings.Cut(p.sumLine(t, name+".tar.gz"), " ")
		if !strings.Contains(manifest, "/v"+p.version+"/"+name+".tar.gz\n      sha256: \""+sum+"\"\n") {
			t.Errorf("the manifest does not lead to %s with sum %s", name, sum)
		}
		dir := p.unpack(t, name)
		info, err := buildinfo.ReadFile(filepath.Join(dir, "kubectl-nsqueue"))
		if err != nil {
			t.Fatal(err)
		}
		system, arch, _ := strings.Cut(platform, "-")
		for key, value := range map[string]string{"GOOS": system, "GOARCH": arch} {
			if !slices.Contains(info.Settings, debug.BuildSetting{Key: key, Value: value}) {
				t.Errorf("%s is not built with %s=%s", name, key, value)
			}
		}
		p.checkModules(t, name, info, filepath.Join(dir, "THIRD-PARTY-NOTICES"))
		if platform == "linux-amd64" {
			p.wantProgramVersion(t, filepath.Join(dir, "kubectl-nsqueue"), p.version)
		}
	}
}

// sumLine is what the checksums have about a file.
func (p *published) sumLine(t *testing.T, file string) string {
	t.Helper()
	for line := range strings.Lines(p.read(t, "SHA256SUMS")) {
		if strings.HasSuffix(line, "  "+file+"\n") {
			return line
		}
	}
	t.Errorf("SHA256SUMS lacks %s", file)
	return ""
}

// checkModules wants the modules of a program in the list and the notices of its archive.
func (p *published) checkModules(t *testing.T, name string, info *buildinfo.BuildInfo, notices string) {
	t.Helper()
	text, err := os.ReadFile(notices)
	if err != nil {
		t.Fatal(err)
	}
	listed := p.listed(t, name)
	for _, module := range info.Deps {
		if module.Path == "github.com/nsqueue/nsqueue" {
			continue // the project itself
		}
		if !slices.Contains(listed, module.Path+" "+module.Version) {
			t.Errorf("the list of modules lacks %s %s", module.Path, module.Version)
		}
		if !strings.Contains(string(text), "=== "+module.Path+" "+module.Version+": ") {
			t.Errorf("the notices lack %s %s", module.Path, module.Version)
		}
	}
}

// checkSource builds the source without git: the programs have the version, too.
func (p *published) checkSource(t *testing.T) {
	name := "nsqueue-" + p.version
	c := &checkout{dir: filepath.Join(p.unpack(t, name+"-source"), name)}
	if out, err := c.run(t, "make", "build"); err != nil {
		t.Fatalf("build the source: %v\n%s", err, out)
	}
	c.wantProgramVersion(t, "bin/nsqueued", p.version)
	if _, err := os.Stat(filepath.Join(c.dir, "kmod/LICENSE")); err != nil {
		t.Error(err)
	}
}

// checkModule looks into the package with the kernel module's source.
func (p *published) checkModule(t *testing.T) {
	out, err := p.run(t, "dpkg-deb", "--contents",
		filepath.Join(p.files(), "nsqueue-dkms_"+p.version+"_all.deb"))
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, file := range []string{"dkms.conf", "hook.c", "LICENSE"} {
		if !strings.Contains(out, " ./usr/src/nsqueue-"+p.version+"/"+file+"\n") {
			t.Errorf("the package lacks %s:\n%s", file, out)
		}
	}
}
