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

// A .conf file has a single plugin; a chain needs a conflist. A conversion is the
// conflist that is made of a .conf file. That of 10-x.conf is named
// 10-x-with-nsqueue.conflist: runtimes find it first, because '-' sorts before '.'.

// conversionSuffix ends the names of conversions.
const conversionSuffix = "-with-nsqueue.conflist"

// conversionName returns the name of the conversion of a .conf file.
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

// isOrphan reports whether the source of a conversion is gone, or is a meta plugin.
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

// isConversion reports whether convert has made a conflist, with nsqueue's entry or
// without: to convert its first plugin again gives the same text.
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

// sourceOf returns the path of the .conf file of a conversion, "" where it is gone.
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
