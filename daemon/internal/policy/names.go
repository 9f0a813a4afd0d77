// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/rules"
)

// mostNames bounds the names that are remembered, in some 2 MB.
const mostNames = 10000

// names remembers what pods have asked for. It is safe for concurrent use.
type names struct {
	mu        sync.Mutex
	seen      map[nameKey]*sighting
	forgotten uint64
}

type nameKey struct {
	namespace, pod, app, name string
	port                      int64
}

type sighting struct {
	count   uint64
	verdict string
	last    time.Time
}

func newNames() *names { return &names{seen: make(map[nameKey]*sighting)} }

// note remembers the name of a flow that was decided. It allocates for new ones only.
func (s *names) note(pod *rules.Pod, n *rules.Note) {
	name := nameOf(n.Flow)
	if name == "" {
		return
	}
	key := nameKey{pod.Namespace, pod.Name, n.Flow.AppProtocol, name, n.Flow.ServerPort}
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.seen[key]
	if seen == nil {
		if len(s.seen) >= mostNames {
			s.forgotten++
			return
		}
		key.name = strings.Clone(name)
		seen = new(sighting)
		s.seen[key] = seen
	}
	seen.count++
	seen.verdict, seen.last = verdictOf(n), time.Now()
}

// nameOf returns what the client of a flow asks for, or nothing.
func nameOf(f *rules.Flow) string {
	switch f.AppProtocol {
	case "tls", "quic":
		return f.TLSServerName
	case "http":
		return f.HTTPHost
	case "dns":
		if !f.DNSResponse {
			return f.DNSName
		}
	}
	return ""
}

func verdictOf(n *rules.Note) string {
	switch n.Verdict {
	case rules.Rejected:
		return "reject"
	case rules.Dropped:
		return "drop"
	}
	return "accept"
}

// list returns the names of the time until now, 0 for all, in the order of pods.
func (s *names) list(since time.Duration) api.ObservedNames {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := api.ObservedNames{Forgotten: s.forgotten}
	for key, seen := range s.seen {
		if since > 0 && time.Since(seen.last) > since {
			continue
		}
		answer.Names = append(answer.Names, api.ObservedName{
			Namespace: key.namespace, Pod: key.pod, App: key.app, Name: key.name,
			Port: int(key.port), Verdict: seen.verdict, Count: seen.count, Last: seen.last.UTC(),
		})
	}
	slices.SortFunc(answer.Names, func(a, b api.ObservedName) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Pod, b.Pod),
			strings.Compare(a.Name, b.Name), strings.Compare(a.App, b.App), a.Port-b.Port)
	})
	return answer
}
