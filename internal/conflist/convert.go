// SPDX-License-Identifier: Apache-2.0

package conflist

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/libcni"
)

// A .conf file has a single plugin; a chain needs a conflist. What is made of
// 10-x.conf is called 10-x-with-nsqueue.conflist, which runtimes find first,
// because '-' is before '.'.

// conversionSuffix ends the names of the conflists that are made of .conf files.
const conversionSuffix = "-with-nsqueue.conflist"

// conversionName returns the name of the conflist that is made of a .conf file.
func conversionName(name string) string {
	return strings.TrimSuffix(name, filepath.Ext(name)) + conversionSuffix
}

// convert returns the conflist that does the same as a .conf file, as runtimes
// convert it in memory. The text of the plugin is kept as it is.
func convert(conf []byte) ([]byte, error) {
	c, err := loadSingle(conf)
	if err != nil {
		return nil, err
	}
	name, err := json.Marshal(c.Network.Name)
	if err != nil {
		return nil, err
	}
	cniVersion, err := json.Marshal(c.Network.CNIVersion)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil,
		"{\n  \"name\": %s,\n  \"cniVersion\": %s,\n  \"plugins\": [\n    %s\n  ]\n}\n",
		name, cniVersion, bytes.Trim(conf, " \t\r\n")), nil
}

// loadSingle reads the only plugin of a .conf file.
func loadSingle(conf []byte) (*libcni.PluginConfig, error) {
	c, err := libcni.NetworkPluginConfFromBytes(conf)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if c.Network.Name == "" {
		return nil, fmt.Errorf("%w: it has no name", ErrInvalid)
	}
	return c, nil
}

// isOrphan reports whether a conversion has lost its source, or was made of one
// that is a meta plugin.
func isOrphan(dir, conversion string) bool {
	source, err := sourceOf(dir, conversion)
	if err != nil {
		return false
	}
	if source == "" {
		return true
	}
	f, err := read(source)
	return err == nil && isMeta(f.text)
}

// isConversion reports whether a conflist is one that convert has made, with our
// entry or without: made again of its own first plugin, it is the same.
func isConversion(name string, text []byte) bool {
	if !strings.HasSuffix(name, conversionSuffix) {
		return false
	}
	bare, _, err := Remove(text)
	if err != nil {
		return false
	}
	l, err := parseList(bare)
	if err != nil || len(l.plugins) != 1 {
		return false
	}
	again, err := convert(l.plugins[0].of(bare))
	return err == nil && bytes.Equal(again, bare)
}

// sourceOf returns the path of the file that a conversion was made of, "" where
// that is gone.
func sourceOf(dir, conversion string) (string, error) {
	base := strings.TrimSuffix(conversion, conversionSuffix)
	for _, ext := range []string{".conf", ".json"} {
		path := filepath.Join(dir, base+ext)
		_, err := os.Lstat(path)
		if err == nil {
			return path, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return "", nil
}
