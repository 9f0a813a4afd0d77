// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
)

// document is a list of parts in the format of SPDX 2.3.
type document struct {
	SPDXID            string         `json:"SPDXID"`
	SPDXVersion       string         `json:"spdxVersion"`
	DataLicense       string         `json:"dataLicense"`
	Name              string         `json:"name"`
	DocumentNamespace string         `json:"documentNamespace"`
	CreationInfo      creation       `json:"creationInfo"`
	Packages          []part         `json:"packages"`
	Relationships     []relationship `json:"relationships"`
}

type creation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

// part is a program, or a module that programs are made of.
type part struct {
	SPDXID           string      `json:"SPDXID"`
	Name             string      `json:"name"`
	VersionInfo      string      `json:"versionInfo"`
	Purpose          string      `json:"primaryPackagePurpose"`
	DownloadLocation string      `json:"downloadLocation"`
	FilesAnalyzed    bool        `json:"filesAnalyzed"`
	LicenseConcluded string      `json:"licenseConcluded"`
	LicenseDeclared  string      `json:"licenseDeclared"`
	CopyrightText    string      `json:"copyrightText"`
	Checksums        []checksum  `json:"checksums,omitempty"`
	ExternalRefs     []reference `json:"externalRefs"`
}

type checksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type reference struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type relationship struct {
	Element string `json:"spdxElementId"`
	Type    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

const (
	documentID = "SPDXRef-DOCUMENT"
	project    = "https://github.com/nsqueue/nsqueue"
	unsaid     = "NOASSERTION"
)

// sbom prints what the programs consist of, as the Go tools wrote it into them.
func (r release) sbom(dirs []string, out io.Writer) error {
	if err := r.check(); err != nil {
		return err
	}
	if len(dirs) != 1 {
		return errors.New("name the one directory of the programs: sbom DIR")
	}
	programs, err := filepath.Glob(filepath.Join(dirs[0], "*"))
	if err != nil || len(programs) == 0 {
		return errors.Join(fmt.Errorf("%s has no programs", dirs[0]), err)
	}
	d := document{
		SPDXID: documentID, SPDXVersion: "SPDX-2.3", DataLicense: "CC0-1.0",
		Name:         "nsqueue-" + r.version,
		CreationInfo: creation{r.created(), []string{"Organization: nsqueue", "Tool: make image"}},
	}
	for _, program := range programs {
		if err := d.add(r.version, program); err != nil {
			return fmt.Errorf("list what %s consists of: %w", program, err)
		}
	}
	return d.write(out)
}

// add adds a program and its modules.
func (d *document) add(version, program string) error {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return err
	}
	body, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	name := filepath.Base(program)
	p := module(info.Main.Path, "v"+version)
	p.SPDXID, p.Name, p.Purpose = id("program", name), name, "APPLICATION"
	p.VersionInfo, p.LicenseDeclared = version, "Apache-2.0"
	p.Checksums = []checksum{{"SHA256", hex.EncodeToString(sum[:])}}
	p.ExternalRefs[0].Locator += "#" + strings.TrimPrefix(info.Path, info.Main.Path+"/")
	d.Packages = append(d.Packages, p)
	d.relate(documentID, "DESCRIBES", p.SPDXID)

	parts := []part{module("stdlib", strings.TrimPrefix(info.GoVersion, "go"))}
	for _, dep := range info.Deps {
		parts = append(parts, moduleOf(dep))
	}
	for _, m := range parts {
		d.Packages = append(d.Packages, m)
		d.relate(p.SPDXID, "DEPENDS_ON", m.SPDXID)
	}
	return nil
}

func (d *document) relate(element, kind, related string) {
	d.Relationships = append(d.Relationships, relationship{element, kind, related})
}

// moduleOf is the module that was compiled in, or the one that replaced it.
func moduleOf(m *debug.Module) part {
	if m.Replace != nil {
		m = m.Replace
	}
	return module(m.Path, m.Version)
}

func module(path, version string) part {
	return part{
		SPDXID: id("module", path+"-"+version), Name: path, VersionInfo: version,
		Purpose: "LIBRARY", DownloadLocation: unsaid,
		LicenseConcluded: unsaid, LicenseDeclared: unsaid, CopyrightText: unsaid,
		ExternalRefs: []reference{{
			"PACKAGE-MANAGER", "purl",
			"pkg:golang/" + path + "@" + strings.ReplaceAll(version, "+", "%2B"),
		}},
	}
}

// id makes an identifier, which has letters, digits, dots and hyphens.
func id(kind, name string) string {
	other := regexp.MustCompile("[^a-zA-Z0-9.-]+")
	return "SPDXRef-" + kind + "-" + other.ReplaceAllString(name, "-")
}

// write prints the document with each part once, sorted. Its name space is unique, as
// it is made of the programs' checksums.
func (d *document) write(out io.Writer) error {
	slices.SortFunc(d.Packages, func(a, b part) int { return cmp.Compare(a.SPDXID, b.SPDXID) })
	d.Packages = slices.CompactFunc(d.Packages,
		func(a, b part) bool { return a.SPDXID == b.SPDXID })
	sum := sha256.New()
	for _, p := range d.Packages {
		for _, c := range p.Checksums {
			fmt.Fprintln(sum, p.Name, c.Value)
		}
	}
	d.DocumentNamespace = project + "/spdx/" + hex.EncodeToString(sum.Sum(nil))
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(d)
}
