// SPDX-License-Identifier: Apache-2.0

package adopt

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/internal/cnipod"
)

// pod is a record and the netns that it is about.
type pod struct {
	*record
	netns  *netnsInfo // nil where there is none
	reason string     // why there is none, or why it is not this pod's for certain
	// searched: it was found by its addresses, and not at a path.
	searched bool
}

// claim is an interface that only one pod can have.
type claim struct {
	cookie uint64
	ifname string
}

// matcher brings records and netns together.
type matcher struct {
	options  *Options
	scanned  *scanned
	attached []api.Attachment
	pods     []pod
}

// place finds the netns of a record.
func (m *matcher) place(r *record) {
	p := pod{record: r}
	if err := m.find(&p); err != nil {
		p.reason = err.Error()
	}
	m.pods = append(m.pods, p)
}

// find takes the netns at the path that the record names. Where there is no path,
// or no netns at all is seen where it leads, it takes the one that has the record's
// addresses. Beside an error it may leave what it looked into.
func (m *matcher) find(p *pod) error {
	if len(p.addresses) == 0 {
		return fmt.Errorf("the cached result has no address of %s: nsqueued cannot tell its netns",
			p.key.Ifname)
	}
	var absent error
	if p.netnsPath != "" {
		s, err := m.scanned.atAny(netns.Paths(p.netnsPath))
		if err == nil {
			p.netns = s
			return s.verify(p.key.Ifname, p.addresses)
		}
		absent = explain(p.netnsPath, err)
		if m.scanned.shows(p.netnsPath) {
			return absent
		}
	}
	p.searched = true
	var err error
	p.netns, err = m.search(p.record)
	if err != nil && absent != nil {
		return fmt.Errorf("%w, and %w", absent, err)
	}
	return err
}

// search looks for the one netns that has the record's addresses.
func (m *matcher) search(r *record) (*netnsInfo, error) {
	var found *netnsInfo
	var paths []string
	for _, s := range m.scanned.listed {
		if s.verify(r.key.Ifname, r.addresses) == nil {
			found = s
			paths = append(paths, s.id.Path)
		}
	}
	switch len(paths) {
	case 0:
		return nil, fmt.Errorf("no netns has %s on %s", join(r.addresses), r.key.Ifname)
	case 1:
		return found, nil
	}
	for _, s := range m.scanned.listed {
		s.explained = s.explained || slices.Contains(paths, s.id.Path)
	}
	return nil, fmt.Errorf("ambiguous: %s is in %s",
		join(r.addresses), strings.Join(paths, " and "))
}

// resolveClaims leaves each interface to one pod at most: a record that names
// the netns beats one that was found by address, and among equals none wins.
func (m *matcher) resolveClaims() {
	claims := make(map[claim][]*pod)
	for i := range m.pods {
		p := &m.pods[i]
		if p.netns == nil {
			continue
		}
		p.netns.explained = true
		if p.reason == "" {
			c := claim{p.netns.id.Cookie, p.key.Ifname}
			claims[c] = append(claims[c], p)
		}
	}
	for _, rivals := range claims {
		named := slices.DeleteFunc(slices.Clone(rivals),
			func(p *pod) bool { return p.searched })
		for _, p := range rivals {
			switch {
			case len(rivals) == 1, len(named) == 1 && p == named[0]:
			case len(named) == 1:
				p.reason = fmt.Sprintf("the netns %s is that of container %s",
					p.netns.id.Path, named[0].key.ContainerID)
			default:
				p.reason = fmt.Sprintf("ambiguous: %d cached results are about %s in %s",
					len(rivals), p.key.Ifname, p.netns.id.Path)
			}
		}
	}
}

// judge adds the pod to the findings.
func (m *matcher) judge(p *pod, f *Findings) {
	result := api.AdoptResult{
		Key: p.key, Network: p.network, Pod: p.pod, Outcome: api.AdoptSkipped,
		Netns: api.Netns{Path: p.netnsPath},
	}
	if p.netns != nil {
		result.Netns = p.netns.id
	}
	decision, err := m.decide(p)
	switch other, taken := m.attachedAs(p); {
	case taken && other == p.key:
		result.Outcome = api.AlreadyAttached
	case err != nil:
		result.Reason = err.Error()
	case p.reason != "":
		result.Reason = p.reason
	case taken:
		result.Reason = fmt.Sprintf("its netns is attached already, as %s", other)
	default:
		f.Candidates = append(f.Candidates, Candidate{
			Request: api.AttachRequest{
				Key: p.key, Network: p.network, Origin: api.OriginAdopted, Pod: p.pod,
				NetnsPath: p.netns.id.Path, FailurePolicy: decision.Policy,
				Warnings: decision.Warnings, Annotations: decision.Annotations,
			},
			Netns: p.netns.id, addresses: p.addresses,
		})
		return
	}
	f.Others = append(f.Others, result)
}

// decide says how the pod is to be treated; an error says why not at all.
func (m *matcher) decide(p *pod) (cnipod.Decision, error) {
	settings := p.settings
	settings.ExcludeNamespaces = slices.Concat(
		settings.ExcludeNamespaces, m.options.ExcludeNamespaces)
	if settings.Policy == "" {
		settings.Policy = m.options.FailurePolicy
	}
	d := settings.Decide(p.pod.Namespace)
	switch {
	case d.Inspect:
		return d, nil
	case slices.Contains(settings.ExcludeNamespaces, p.pod.Namespace):
		return d, fmt.Errorf("namespace %s is excluded", p.pod.Namespace)
	}
	return d, errors.New("its annotations ask not to be inspected")
}

// attachedAs returns the attachment that has the pod's key, or else its
// interface.
func (m *matcher) attachedAs(p *pod) (key api.Key, taken bool) {
	for i := range m.attached {
		a := &m.attached[i]
		if a.Key == p.key {
			return a.Key, true
		}
		if p.netns != nil && a.Ifname == p.key.Ifname && a.Netns.Cookie == p.netns.id.Cookie {
			key, taken = a.Key, true
		}
	}
	return key, taken
}

// unknown returns the netns of the directories that neither a record nor an
// attachment explains.
func (m *matcher) unknown() []api.AdoptResult {
	var results []api.AdoptResult
	for _, s := range m.scanned.listed {
		attached := slices.ContainsFunc(m.attached, func(a api.Attachment) bool {
			return a.Netns.Cookie == s.id.Cookie
		})
		if !s.explained && !attached {
			results = append(results, api.AdoptResult{
				Netns: s.id, Outcome: api.UnknownNetns, Reason: "no cached result is about it",
			})
		}
	}
	return results
}
