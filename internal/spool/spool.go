// SPDX-License-Identifier: Apache-2.0

// Package spool is the directory of undelivered CNI calls: the plugin writes a call
// that it cannot deliver to the daemon, and the daemon reads and removes it. Each
// attachment has one JSON file, with its last call.
//
// It imports nothing but the standard library and the packages api, atomicfile and
// boottime, because it is linked into the CNI plugin.
package spool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/boottime"
)

// Version of the file format. A file with a higher one was written by a newer
// plugin and is left alone.
const Version = 1

// MaxSize bounds a file. An honest one has less than 2 KiB besides the annotations
// of its pod, of which JSON writes a byte as six at most.
const MaxSize = 128 << 10

// ErrNewer is in the chain of the error about a file with a higher version.
var ErrNewer = errors.New("written by a newer plugin")

// Verb is the CNI command of an entry.
type Verb string

// The verbs that are spooled.
const (
	Add Verb = "ADD"
	Del Verb = "DEL"
)

// Netns tells the netns of an ADD from a later one at the same path.
type Netns struct {
	Dev uint64 `json:"dev"`
	Ino uint64 `json:"ino"`
}

// Entry is one call that did not reach the daemon, or had no answer.
type Entry struct {
	Version int  `json:"version"`
	Verb    Verb `json:"verb"`
	api.Key
	// Called is when the call began, in nanoseconds since boot, suspension
	// included (see [boottime.Now]): it orders calls whatever happens to the wall
	// clock. It compares with times of the same boot only.
	Called time.Duration `json:"called"`
	BootID string        `json:"bootID"`
	// Time is the same for people.
	Time time.Time `json:"time"`
	// Attach and Netns are what an ADD asks for; a DEL has none.
	Attach *api.AttachRequest `json:"attach,omitempty"`
	Netns  *Netns             `json:"netns,omitempty"`
}

// NewAdd returns the entry of an ADD whose netns is open as a file.
func NewAdd(req api.AttachRequest, netns *os.File, called time.Duration) (*Entry, error) {
	info, err := netns.Stat()
	if err != nil {
		return nil, err
	}
	id, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, fmt.Errorf("stat %s: no inode", netns.Name())
	}
	e, err := newEntry(Add, req.Key, called)
	if err != nil {
		return nil, err
	}
	e.Attach, e.Netns = &req, &Netns{Dev: id.Dev, Ino: id.Ino}
	return e, nil
}

// NewDel returns the entry of a DEL.
func NewDel(key api.Key, called time.Duration) (*Entry, error) {
	return newEntry(Del, key, called)
}

func newEntry(v Verb, key api.Key, called time.Duration) (*Entry, error) {
	id, err := boottime.ID()
	if err != nil {
		return nil, err
	}
	return &Entry{
		Version: Version, Verb: v, Key: key, Called: called, BootID: id, Time: time.Now().UTC(),
	}, nil
}

// Validate checks that the entry can be acted on.
func (e *Entry) Validate() error {
	if err := e.Key.Validate(); err != nil {
		return err
	}
	if e.Called <= 0 || e.BootID == "" {
		return errors.New("called or bootID is missing: want the time of the call")
	}
	switch e.Verb {
	case Add:
		return e.validateAdd()
	case Del:
		if e.Attach != nil || e.Netns != nil {
			return errors.New("attach or netns with a DEL: want neither")
		}
		return nil
	}
	return fmt.Errorf("verb %.20q: want %q or %q", string(e.Verb), Add, Del)
}

func (e *Entry) validateAdd() error {
	if e.Attach == nil || e.Netns == nil || e.Netns.Ino == 0 {
		return errors.New("attach and netns: want both with an ADD")
	}
	if err := e.Attach.Validate(); err != nil {
		return err
	}
	switch {
	case e.Attach.Key != e.Key:
		return fmt.Errorf("attach is for %s, the entry for %s", e.Attach.Key, e.Key)
	case e.Attach.Origin != api.OriginCNI:
		return fmt.Errorf("origin %.20q: want %q", string(e.Attach.Origin), api.OriginCNI)
	case !filepath.IsAbs(e.Attach.NetnsPath) || strings.ContainsRune(e.Attach.NetnsPath, 0):
		return fmt.Errorf("netns path %.200q: want an absolute path", e.Attach.NetnsPath)
	}
	return nil
}

// Parse reads an entry. It accepts nothing that it does not understand.
func Parse(b []byte) (*Entry, error) {
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, err
	}
	if head.Version > Version {
		return nil, fmt.Errorf("version %d: %w, this daemon knows up to %d",
			head.Version, ErrNewer, Version)
	}
	if head.Version < 1 {
		return nil, fmt.Errorf("version %d: want 1 to %d", head.Version, Version)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	var e Entry
	if err := dec.Decode(&e); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("data after the JSON value")
	}
	return &e, e.Validate()
}

// Path returns the spool of the daemon that listens at the socket.
func Path(socket string) string { return filepath.Join(filepath.Dir(socket), "spool") }

const suffix = ".json"

// name of a key's file. A valid container ID has no '@', so that no two keys
// share a name.
func name(k api.Key) string { return k.ContainerID + "@" + k.Ifname + suffix }

// keyOf is the inverse of name.
func keyOf(file string) (api.Key, bool) {
	base, ok := strings.CutSuffix(file, suffix)
	id, ifname, found := strings.Cut(base, "@")
	k := api.Key{ContainerID: id, Ifname: ifname}
	return k, ok && found && k.Validate() == nil
}
