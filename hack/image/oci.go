// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// The media types of https://github.com/opencontainers/image-spec.
const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// blob is a part of an image, which others name by its digest.
type blob struct {
	mediaType string
	body      []byte
}

// digest is the blob's name, in hexadecimal.
func (b blob) digest() string {
	sum := sha256.Sum256(b.body)
	return hex.EncodeToString(sum[:])
}

// path is where the blob is in the archive.
func (b blob) path() string { return "blobs/sha256/" + b.digest() }

func (b blob) descriptor() descriptor {
	return descriptor{MediaType: b.mediaType, Digest: "sha256:" + b.digest(), Size: len(b.body)}
}

// descriptor names a blob. The other types are what the blobs in JSON have in them.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Platform    *platform         `json:"platform,omitempty"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Variant      string `json:"variant,omitempty"`
}

type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	Config        *descriptor       `json:"config,omitempty"`
	Layers        []descriptor      `json:"layers,omitempty"`
	Manifests     []descriptor      `json:"manifests,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

type config struct {
	Created string `json:"created"`
	platform
	Config  settings  `json:"config"`
	RootFS  rootFS    `json:"rootfs"`
	History []history `json:"history"`
}

type settings struct {
	Entrypoint []string          `json:"Entrypoint"`
	Env        []string          `json:"Env"`
	WorkingDir string            `json:"WorkingDir"`
	Labels     map[string]string `json:"Labels"`
}

type rootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

type history struct {
	Created   string `json:"created"`
	CreatedBy string `json:"created_by"`
}

// image is the image of one architecture.
type image struct {
	platform                platform
	layer, config, manifest blob
}

// newImage makes an image whose root is the directory.
func (r release) newImage(arch, dir string) (*image, error) {
	i := &image{platform: platform{Architecture: arch, OS: "linux"}}
	switch arch {
	case "amd64":
	case "arm64":
		i.platform.Variant = "v8"
	default:
		return nil, fmt.Errorf("no architecture %q: it is amd64 or arm64", arch)
	}
	l, err := packTree(dir, r.epoch)
	if err != nil {
		return nil, err
	}
	i.layer = blob{typeLayer, l.compressed}
	i.config, err = encode(typeConfig, config{
		Created: r.created(), platform: i.platform,
		Config: settings{
			Entrypoint: []string{"/usr/local/bin/nsqueued"},
			Env:        []string{"PATH=/usr/local/bin"},
			WorkingDir: "/",
			Labels:     r.labels(),
		},
		RootFS:  rootFS{Type: "layers", DiffIDs: []string{l.diffID}},
		History: []history{{Created: r.created(), CreatedBy: "make image"}},
	})
	if err != nil {
		return nil, err
	}
	of := i.config.descriptor()
	i.manifest, err = encode(typeManifest, manifest{
		SchemaVersion: 2, MediaType: typeManifest,
		Config: &of, Layers: []descriptor{i.layer.descriptor()}, Annotations: r.labels(),
	})
	return i, err
}

// index is what chooses the image of a machine.
func (r release) index(images []*image) (blob, error) {
	m := manifest{SchemaVersion: 2, MediaType: typeIndex, Annotations: r.labels()}
	for _, i := range images {
		d := i.manifest.descriptor()
		d.Platform = &i.platform
		m.Manifests = append(m.Manifests, d)
	}
	return encode(typeIndex, m)
}

// labels says what the image is.
func (r release) labels() map[string]string {
	const prefix = "org.opencontainers.image."
	labels := map[string]string{
		prefix + "title": "nsqueue",
		prefix + "description": "Sends the packets of every pod through one program: " +
			"the daemon, the CNI plugin and their command",
		prefix + "url":           "https://github.com/nsqueue/nsqueue",
		prefix + "source":        "https://github.com/nsqueue/nsqueue",
		prefix + "documentation": "https://github.com/nsqueue/nsqueue/tree/main/docs",
		prefix + "licenses":      "Apache-2.0",
		prefix + "version":       r.version,
		prefix + "created":       r.created(),
	}
	if r.revision != "" {
		labels[prefix+"revision"] = r.revision
	}
	return labels
}

// encode makes a blob of JSON.
func encode(mediaType string, v any) (blob, error) {
	body, err := json.Marshal(v)
	return blob{mediaType, body}, err
}
