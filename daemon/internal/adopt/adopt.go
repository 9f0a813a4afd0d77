// SPDX-License-Identifier: Apache-2.0

// Package adopt finds pods that are older than nsqueue: netns that a CNI chain
// has made and that are not attached. It reads what runtimes leave behind, the
// files of libcni's result cache and the directories where netns are mounted,
// and believes a record only if the netns has the very addresses that the
// record gives it. It attaches nothing itself.
package adopt

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
)

// Options say where to look, and how what is found is to be treated.
type Options struct {
	// NetnsDirs are where runtimes mount netns. One that is missing is empty, and is
	// named where no netns is found.
	NetnsDirs []string
	// CacheDir has the files of libcni's result cache. It may be missing, which is
	// said.
	CacheDir string
	// ExcludeNamespaces are those whose pods are not adopted, besides those of
	// the CNI configuration that a pod was made with.
	ExcludeNamespaces []string
	// FailurePolicy of pods whose CNI configuration names none.
	FailurePolicy api.Policy
}

// Candidate is a pod that can be attached.
type Candidate struct {
	// Request is what to ask of the registry.
	Request api.AttachRequest
	// Netns is what was verified.
	Netns api.Netns

	addresses []netip.Addr
}

// Findings are what a scan found. Both lists are in no order.
type Findings struct {
	Candidates []Candidate
	// Others are the pods that cannot, or need not, be attached, and the netns
	// that belong to no pod.
	Others []api.AdoptResult
	// Missing says what could not be looked at.
	Missing []string
}

// Scan looks for pods that are not among the attached ones.
func Scan(o Options, attached []api.Attachment) (Findings, error) {
	records, unreadable, err := readCache(o.CacheDir)
	if err != nil {
		return Findings{}, err
	}
	s := &scanned{known: make(map[inode]*netnsInfo), ifnames: ifnamesOf(records)}
	broken, err := s.list(o.NetnsDirs)
	if err != nil {
		return Findings{}, err
	}
	m := &matcher{options: &o, scanned: s, attached: attached}
	for i := range records {
		m.place(&records[i])
	}
	m.resolveClaims()
	found := Findings{Others: slices.Concat(unreadable, broken), Missing: missing(&o, s)}
	for i := range m.pods {
		m.judge(&m.pods[i], &found)
	}
	found.Others = append(found.Others, m.unknown()...)
	return found, nil
}

// Open opens the candidate's netns and verifies once more, now by what is open,
// that it is the one that was found and still has the pod's addresses. What it
// returns can be attached whatever happens to the path; the caller closes it.
func (c *Candidate) Open() (*os.File, error) {
	path, ifname := c.Netns.Path, c.Request.Ifname
	f, s, err := openNetnsInfo(path, []string{ifname})
	if err != nil {
		return nil, explain(path, err)
	}
	if s.id.Cookie != c.Netns.Cookie {
		_ = f.Close()
		return nil, fmt.Errorf("another netns is at %s now", path)
	}
	if err := s.verify(ifname, c.addresses); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// explain words why a netns could not be looked into.
func explain(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, netns.ErrNotNetns):
		return fmt.Errorf("no netns is at %s any more", path)
	case errors.Is(err, errNotPods):
		return fmt.Errorf("%s is %w", path, err)
	}
	return err
}
