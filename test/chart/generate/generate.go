// SPDX-License-Identifier: Apache-2.0

// Package generate makes the files that follow from the chart: manifests for kubectl,
// components for kustomize, the reference of the values, and what the chart has a copy of.
package generate

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/nsqueue/nsqueue/test/chart/render"
)

// The chart, and where what is made of it goes, from the root of the repository.
const (
	Chart    = "deploy/charts/nsqueue"
	Manifest = "deploy/kubernetes"
)

// Static is the release of the manifests for kubectl. They are for versions from KubeVersion
// on.
func Static() render.Release {
	return render.Release{Name: "nsqueue", Namespace: "nsqueue-system", KubeVersion: "1.33"}
}

// copies are files that the chart needs inside of it.
func copies() map[string]string {
	return map[string]string{
		"deploy/observability/alerts.yaml":    Chart + "/files/alerts.yaml",
		"deploy/observability/dashboard.json": Chart + "/files/dashboard.json",
	}
}

// Files returns what is made, by its path from the root of the repository.
func Files(root string) (map[string][]byte, error) {
	files := make(map[string][]byte)
	for from, to := range copies() {
		b, err := os.ReadFile(filepath.Join(root, from))
		if err != nil {
			return nil, err
		}
		files[to] = b
	}
	values, err := os.ReadFile(filepath.Join(root, Chart, "values.yaml"))
	if err != nil {
		return nil, err
	}
	if files[Chart+"/README.md"], err = reference(values); err != nil {
		return nil, err
	}
	chart, err := render.Load(filepath.Join(root, Chart))
	if err != nil {
		return nil, err
	}
	made, err := manifests(chart)
	maps.Copy(files, made)
	return files, err
}

// Stale returns the paths of files that are not what they should be.
func Stale(root string) ([]string, error) {
	files, err := Files(root)
	if err != nil {
		return nil, err
	}
	var stale []string
	for path, want := range files {
		have, err := os.ReadFile(filepath.Join(root, path))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if !bytes.Equal(have, want) {
			stale = append(stale, path)
		}
	}
	slices.Sort(stale)
	return stale, nil
}

// Write makes the files. The copies come first: the chart that is rendered has them.
func Write(root string) error {
	for from, to := range copies() {
		b, err := os.ReadFile(filepath.Join(root, from))
		if err != nil {
			return err
		}
		if err := write(filepath.Join(root, to), b); err != nil {
			return err
		}
	}
	files, err := Files(root)
	if err != nil {
		return err
	}
	for path, b := range files {
		if err := write(filepath.Join(root, path), b); err != nil {
			return err
		}
	}
	return nil
}

func write(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make %s: %w", path, err)
	}
	return os.WriteFile(path, b, 0o644)
}
