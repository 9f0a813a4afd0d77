// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// layer is a tree of files, packed.
type layer struct {
	// compressed is what is in the image, diffID the digest of what is compressed.
	compressed []byte
	diffID     string
}

// packTree packs what is below the directory, sorted by name. All of it belongs to
// root, and is as old as the epoch.
func packTree(dir string, epoch int64) (*layer, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	sum := sha256.New()
	t := tar.NewWriter(io.MultiWriter(z, sum))
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		return addEntry(t, dir, path, d, epoch)
	})
	if err != nil {
		return nil, err
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return &layer{b.Bytes(), "sha256:" + hex.EncodeToString(sum.Sum(nil))}, nil
}

// addEntry adds a directory, a file or a link.
func addEntry(t *tar.Writer, dir, path string, d fs.DirEntry, epoch int64) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	target := ""
	switch info.Mode().Type() {
	case 0, fs.ModeDir:
	case fs.ModeSymlink:
		if target, err = os.Readlink(path); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%s is neither a directory, a file nor a symbolic link", path)
	}
	header, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	name, err := filepath.Rel(dir, path)
	if err != nil {
		return err
	}
	if d.IsDir() {
		name += "/"
	}
	header = &tar.Header{
		Typeflag: header.Typeflag, Name: name, Linkname: header.Linkname, Size: header.Size,
		Mode: header.Mode, ModTime: time.Unix(epoch, 0), Format: tar.FormatUSTAR,
	}
	if err := t.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
		return err
	}
	body, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	_, err = t.Write(body)
	return err
}
