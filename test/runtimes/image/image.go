// SPDX-License-Identifier: Apache-2.0

// Package image makes a container image of a few programs, in the format of
// `docker save`, without a registry.
package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Spec says what is in an image.
type Spec struct {
	// Name is the reference under which it is imported.
	Name string
	// Programs are files that are put into /bin.
	Programs []string
	// Links are further names in /bin of the first program.
	Links []string
	// Files are further ones: where the image has them, and where they are here.
	Files map[string]string
	// Command is what runs where a pod names no command.
	Command []string
}

// Write writes the image as an archive.
func (s Spec) Write(w io.Writer) error {
	layer, err := s.layer()
	if err != nil {
		return fmt.Errorf("make layer of image %s: %w", s.Name, err)
	}
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux",
		"config": map[string]any{"Cmd": s.Command, "Env": []string{"PATH=/bin"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + sum(layer)}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]map[string]any{{
		"Config": sum(config) + ".json", "RepoTags": []string{s.Name},
		"Layers": []string{"layer.tar"},
	}})
	if err != nil {
		return err
	}
	t := tar.NewWriter(w)
	for _, f := range []struct {
		name string
		body []byte
	}{
		{sum(config) + ".json", config}, {"layer.tar", layer}, {"manifest.json", manifest},
	} {
		if err := addFile(t, f.name, 0o644, f.body); err != nil {
			return err
		}
	}
	return t.Close()
}

// layer is the image's root.
func (s Spec) layer() ([]byte, error) {
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	for _, dir := range []string{"bin/", "dev/", "etc/", "proc/", "sys/", "tmp/"} {
		err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755})
		if err != nil {
			return nil, err
		}
	}
	for _, p := range s.Programs {
		body, err := os.ReadFile(p)
		if err != nil {
			return nil, err
		}
		if err := addFile(t, "bin/"+filepath.Base(p), 0o755, body); err != nil {
			return nil, err
		}
	}
	for _, l := range slices.Sorted(slices.Values(s.Links)) {
		err := t.WriteHeader(&tar.Header{
			Typeflag: tar.TypeSymlink, Name: "bin/" + l, Linkname: filepath.Base(s.Programs[0]),
		})
		if err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Files)) {
		body, err := os.ReadFile(s.Files[name])
		if err != nil {
			return nil, err
		}
		if err := addFile(t, strings.TrimPrefix(name, "/"), 0o755, body); err != nil {
			return nil, err
		}
	}
	err := t.Close()
	return b.Bytes(), err
}

func addFile(t *tar.Writer, name string, mode int64, body []byte) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(body))}
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	_, err := t.Write(body)
	return err
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}
