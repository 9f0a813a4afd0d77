// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"cmp"
	"encoding/json"
	"io"
	"slices"
	"time"
)

// file is one of the archive. One without a body is a directory.
type file struct {
	name string
	body []byte
}

// loaded is an image as `docker load` reads it, which knows no index.
type loaded struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// write writes the archive: an OCI layout, and manifest.json beside it.
func (r release) write(w io.Writer, images []*image) error {
	index, err := r.index(images)
	if err != nil {
		return err
	}
	top := index.descriptor()
	// The first names the image for containerd and podman, the second one for all
	// others.
	top.Annotations = map[string]string{
		"io.containerd.image.name":          r.name + ":" + r.tag(),
		"org.opencontainers.image.ref.name": r.tag(),
	}
	layout := manifest{SchemaVersion: 2, MediaType: typeIndex, Manifests: []descriptor{top}}
	var files []file
	for name, v := range map[string]any{
		"oci-layout":    map[string]string{"imageLayoutVersion": "1.0.0"},
		"index.json":    layout,
		"manifest.json": r.loaded(images),
	} {
		body, err := json.Marshal(v)
		if err != nil {
			return err
		}
		files = append(files, file{name, body})
	}
	return writeFiles(w, append(files, blobFiles(index, images)...), r.epoch)
}

// loaded names the images for `docker load`. The first one has the tag alone,
// further ones the architecture behind it.
func (r release) loaded(images []*image) []loaded {
	var all []loaded
	for n, i := range images {
		tag := r.name + ":" + r.tag()
		if n > 0 {
			tag += "-" + i.platform.Architecture
		}
		all = append(all, loaded{
			Config: i.config.path(), RepoTags: []string{tag}, Layers: []string{i.layer.path()},
		})
	}
	return all
}

// blobFiles are the blobs, each once, and the directories in which they are.
func blobFiles(index blob, images []*image) []file {
	blobs := []blob{index}
	for _, i := range images {
		blobs = append(blobs, i.layer, i.config, i.manifest)
	}
	files := []file{{name: "blobs/"}, {name: "blobs/sha256/"}}
	for _, b := range blobs {
		files = append(files, file{b.path(), b.body})
	}
	return files
}

// writeFiles writes the files, sorted by name.
func writeFiles(w io.Writer, files []file, epoch int64) error {
	slices.SortFunc(files, func(a, b file) int { return cmp.Compare(a.name, b.name) })
	files = slices.CompactFunc(files, func(a, b file) bool { return a.name == b.name })
	t := tar.NewWriter(w)
	for _, f := range files {
		header := &tar.Header{
			Typeflag: tar.TypeReg, Name: f.name, Size: int64(len(f.body)), Mode: 0o644,
			ModTime: time.Unix(epoch, 0), Format: tar.FormatUSTAR,
		}
		if f.body == nil {
			header.Typeflag, header.Mode = tar.TypeDir, 0o755
		}
		if err := t.WriteHeader(header); err != nil {
			return err
		}
		if _, err := t.Write(f.body); err != nil {
			return err
		}
	}
	return t.Close()
}
