// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const epoch = "1700000000"

// newRoot is a small root, made with the given umask's modes.
func newRoot(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, err := range []error{
		os.MkdirAll(filepath.Join(dir, "usr/bin"), 0o755),
		os.WriteFile(filepath.Join(dir, "usr/bin/program"), []byte("program"), 0o755),
		os.WriteFile(filepath.Join(dir, "usr/notes"), []byte("notes"), 0o644),
		os.Mkdir(filepath.Join(dir, "tmp"), 0o755),
		os.Chmod(filepath.Join(dir, "tmp"), os.ModeSticky|0o777),
		os.Symlink("/run", filepath.Join(dir, "var")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// pack makes an archive of both architectures, and returns its path.
func pack(t *testing.T, dir string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image.tar")
	err := run([]string{
		"pack", "--name", "example.org/a", "--version", "1.2.3+b", "--revision", "abc",
		"--epoch", epoch, "--output", file, "amd64=" + dir, "arm64=" + dir,
	}, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// entries returns what an archive has, a line for each entry, and the bodies by name.
func entries(t *testing.T, r io.Reader) (lines []string, bodies map[string][]byte) {
	t.Helper()
	bodies = make(map[string][]byte)
	for a := tar.NewReader(r); ; {
		h, err := a.Next()
		if errors.Is(err, io.EOF) {
			return lines, bodies
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.ModTime.UTC().Year() != 2023 {
			t.Errorf("%s: of %d:%d %q, %v", h.Name, h.Uid, h.Gid, h.Uname, h.ModTime)
		}
		body, err := io.ReadAll(a)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.TrimSpace(h.FileInfo().Mode().String()+" "+h.Name+" "+h.Linkname))
		bodies[h.Name] = body
	}
}

func TestPack(t *testing.T) {
	archive, err := os.ReadFile(pack(t, newRoot(t)))
	if err != nil {
		t.Fatal(err)
	}
	names, files := entries(t, bytes.NewReader(archive))
	if want := len(files); len(names) != want {
		t.Errorf("%d entries of %d names", len(names), want)
	}
	var images []loaded
	if err := json.Unmarshal(files["manifest.json"], &images); err != nil {
		t.Fatal(err)
	}
	if len(images) != 2 || images[0].RepoTags[0] != "example.org/a:1.2.3_b" ||
		images[1].RepoTags[0] != "example.org/a:1.2.3_b-arm64" {
		t.Errorf("for docker: %+v", images)
	}
	z, err := gzip.NewReader(bytes.NewReader(files[images[0].Layers[0]]))
	if err != nil {
		t.Fatal(err)
	}
	if !z.ModTime.IsZero() || z.Name != "" {
		t.Errorf("gzip has a time or a name: %v %q", z.ModTime, z.Name)
	}
	lines, _ := entries(t, z)
	want := []string{
		"dtrwxrwxrwx tmp/", "drwxr-xr-x usr/", "drwxr-xr-x usr/bin/",
		"-rwxr-xr-x usr/bin/program", "-rw-r--r-- usr/notes", "Lrwxrwxrwx var /run",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("the root (-want +got):\n%s", diff)
	}
}

// The same root has the same bytes, wherever it is and however old its files are.
func TestPackAgain(t *testing.T) {
	var archives [2][]byte
	for i := range archives {
		body, err := os.ReadFile(pack(t, newRoot(t)))
		if err != nil {
			t.Fatal(err)
		}
		archives[i] = body
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("two archives of the same files differ")
	}
}

func TestPackRefuses(t *testing.T) {
	pipe := t.TempDir()
	if err := exec.CommandContext(t.Context(), "mkfifo", filepath.Join(pipe, "pipe")).Run(); err != nil {
		t.Fatal(err)
	}
	output := filepath.Join(t.TempDir(), "image.tar")
	complete := []string{"--version", "1", "--epoch", epoch, "--output", output}
	for want, args := range map[string][]string{
		"name a command":            {},
		`no command "push"`:         {"push"},
		"say the version":           {"pack", "--epoch", epoch},
		"say the time of the files": {"pack", "--version", "1"},
		"say what to pack":          append([]string{"pack"}, complete...),
		`"/root" is not ARCH=DIR`:   append(append([]string{"pack"}, complete...), "/root"),
		`no architecture "s390x"`:   append(append([]string{"pack"}, complete...), "s390x="+pipe),
		"no such file or directory": append(append([]string{"pack"}, complete...), "amd64=/missing"),
		"is neither a directory":    append(append([]string{"pack"}, complete...), "amd64="+pipe),
		"name the one directory":    {"sbom", "--version", "1", "--epoch", epoch},
		"has no programs":           {"sbom", "--version", "1", "--epoch", epoch, t.TempDir()},
		"list what":                 {"sbom", "--version", "1", "--epoch", epoch, filepath.Join(newRoot(t), "usr/bin")},
	} {
		err := run(args, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", args, err, want)
		}
	}
	if _, err := os.Stat(output); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file was written: %v", err)
	}
}

// Each program of a directory is listed with its modules, of which each is there once.
func TestSBOM(t *testing.T) {
	test, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"one", "two"} {
		if err := os.Symlink(test, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	err = run([]string{"sbom", "--version", "1.2.3", "--epoch", epoch, dir}, &out, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var d document
	if err := json.Unmarshal(out.Bytes(), &d); err != nil {
		t.Fatal(err)
	}
	packages := make(map[string]part)
	for _, p := range d.Packages {
		packages[p.SPDXID] = p
	}
	if len(packages) != len(d.Packages) || packages["SPDXRef-program-one"].VersionInfo != "1.2.3" ||
		packages["SPDXRef-program-two"].Checksums[0] != packages["SPDXRef-program-one"].Checksums[0] {
		t.Errorf("packages: %+v", d.Packages)
	}
	for _, r := range d.Relationships {
		if _, ok := packages[r.Related]; !ok {
			t.Errorf("%+v is with no package", r)
		}
	}
	if d.CreationInfo.Created != "2023-11-14T22:13:20Z" {
		t.Errorf("made at %s", d.CreationInfo.Created)
	}
}
