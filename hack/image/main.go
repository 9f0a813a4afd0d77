// SPDX-License-Identifier: Apache-2.0

// Image makes the container image of nsqueue, without a registry and without a
// program of containers. The same arguments always give the same bytes.
//
//	image sbom [flags] DIR            lists what the programs in DIR consist of (SPDX)
//	image pack [flags] ARCH=DIR...    packs a root for each architecture
//
// It needs the standard library alone: there is no module that writes an OCI layout
// and the archive of `docker load` as one file, and the formats are short.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/nsqueue/nsqueue/internal/atomicfile"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "image:", err)
		}
		os.Exit(1)
	}
}

func run(args []string, out, diagnosis io.Writer) error {
	if len(args) == 0 {
		return errors.New("name a command: sbom or pack")
	}
	flags := flag.NewFlagSet("image "+args[0], flag.ContinueOnError)
	flags.SetOutput(diagnosis)
	var r release
	flags.StringVar(&r.version, "version", "", "`version` of the programs")
	flags.Int64Var(&r.epoch, "epoch", 0, "time of all files, in `seconds` since 1970")
	switch args[0] {
	case "sbom":
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return r.sbom(flags.Args(), out)
	case "pack":
		flags.StringVar(&r.name, "name", "ghcr.io/nsqueue/nsqueue", "`name` without the tag")
		flags.StringVar(&r.revision, "revision", "", "the `commit`; empty if it is not known")
		output := flags.String("output", "", "the `file` to write")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return r.pack(*output, flags.Args())
	}
	return fmt.Errorf("no command %q: it is sbom or pack", args[0])
}

// release is what an image is of.
type release struct {
	name, version, revision string
	epoch                   int64
}

// check wants what has no default.
func (r release) check() error {
	if r.version == "" {
		return errors.New("say the version: --version 1.2.3")
	}
	if r.epoch <= 0 {
		return errors.New("say the time of the files: --epoch, in seconds since 1970")
	}
	return nil
}

func (r release) created() string {
	return time.Unix(r.epoch, 0).UTC().Format(time.RFC3339)
}

// tag is the version. A tag has no +, with which a version may name its build.
func (r release) tag() string { return strings.ReplaceAll(r.version, "+", "_") }

// pack writes the image of the roots. It leaves a file as it was if it fails.
func (r release) pack(output string, roots []string) error {
	if err := r.check(); err != nil {
		return err
	}
	if output == "" || len(roots) == 0 {
		return errors.New("say what to pack: pack --output FILE ARCH=DIR")
	}
	var images []*image
	for _, root := range roots {
		arch, dir, ok := strings.Cut(root, "=")
		if !ok {
			return fmt.Errorf("%q is not ARCH=DIR", root)
		}
		i, err := r.newImage(arch, dir)
		if err != nil {
			return fmt.Errorf("pack %s for %s: %w", dir, arch, err)
		}
		images = append(images, i)
	}
	var b bytes.Buffer
	if err := r.write(&b, images); err != nil {
		return err
	}
	return atomicfile.Replace(output, b.Bytes(), &atomicfile.Options{Mode: 0o644})
}
