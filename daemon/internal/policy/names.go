// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"container/list"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/rules"
)

// mostNames bounds the names that are remembered, in some 4 MB, and mostOfPod those of one
// pod, so that one which asks for random names does not make others forgotten.
const (
	mostNames = 10000
	mostOfPod = 1000
)

// mostAddresses is how many addresses are remembered of each name.
const mostAddresses = 4

// names remembers what pods have asked for. Where there is no room, what was asked for
// longest ago gives way: of the same pod where it has many, else of the pod that has asked
// longest ago. It is safe for concurrent use.
type names struct {
	mu        sync.Mutex
	pods      map[podKey]*list.Element
	order     list.List // of *podNames, the one that asked last in front
	count     int
	forgotten uint64
}

type podKey struct{ namespace, name string }

// podNames are the names of one pod.
type podNames struct {
	key   podKey
	seen  map[nameKey]*list.Element
	order list.List // of *sighting, the one asked for last in front
}

type nameKey struct {
	app, name string
	port      int64
}

type sighting struct {
	nameKey

	count     uint64
	verdict   string
	last      time.Time
	addresses [mostAddresses]netip.Addr // the last in front; those that are not valid are none
}

// asked puts the address of a server in front.
func (s *sighting) asked(server netip.Addr) {
	i := slices.Index(s.addresses[:], server)
	if i < 0 {
		i = len(s.addresses) - 1
	}
	copy(s.addresses[1:i+1], s.addresses[:i])
	s.addresses[0] = server
}

// servers returns the addresses.
func (s *sighting) servers() []netip.Addr {
	none := slices.IndexFunc(s.addresses[:], func(a netip.Addr) bool { return !a.IsValid() })
	if none < 0 {
		none = len(s.addresses)
	}
	return slices.Clone(s.addresses[:none])
}

func newNames() *names { return &names{pods: make(map[podKey]*list.Element)} }

// note remembers the name of a flow that was decided. It allocates for new ones only.
func (s *names) note(pod *rules.Pod, n *rules.Note) {
	name := nameOf(n.Flow)
	if name == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.sighting(podKey{pod.Namespace, pod.Name},
		nameKey{n.Flow.AppProtocol, name, n.Flow.ServerPort})
	seen.count++
	seen.verdict, seen.last = verdictOf(n), time.Now()
	seen.asked(n.Flow.ServerIP)
}

// sighting returns that of a name, which is then the last one.
func (s *names) sighting(of podKey, key nameKey) *sighting {
	element := s.pods[of]
	if element == nil {
		element = s.order.PushFront(&podNames{key: of, seen: make(map[nameKey]*list.Element)})
		s.pods[of] = element
	}
	s.order.MoveToFront(element)
	pod := element.Value.(*podNames)
	if e := pod.seen[key]; e != nil {
		pod.order.MoveToFront(e)
		return e.Value.(*sighting)
	}
	switch {
	case pod.order.Len() >= mostOfPod:
		s.forget(element)
	case s.count >= mostNames:
		s.forget(s.order.Back())
	}
	key.name = strings.Clone(key.name)
	e := pod.order.PushFront(&sighting{nameKey: key})
	pod.seen[key] = e
	s.count++
	return e.Value.(*sighting)
}

// forget removes the oldest name of a pod. A pod without names goes, too, unless it is the
// one in front, which is about to get one.
func (s *names) forget(element *list.Element) {
	pod := element.Value.(*podNames)
	oldest := pod.order.Back()
	delete(pod.seen, oldest.Value.(*sighting).nameKey)
	pod.order.Remove(oldest)
	s.count--
	s.forgotten++
	if pod.order.Len() == 0 && element != s.order.Front() {
		delete(s.pods, pod.key)
		s.order.Remove(element)
	}
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
	for key, element := range s.pods {
		for _, e := range element.Value.(*podNames).seen {
			seen := e.Value.(*sighting)
			if since > 0 && time.Since(seen.last) > since {
				continue
			}
			answer.Names = append(answer.Names, api.ObservedName{
				Namespace: key.namespace, Pod: key.name, App: seen.app, Name: seen.name,
				Port: int(seen.port), Verdict: seen.verdict, Count: seen.count,
				Last: seen.last.UTC(), Addresses: seen.servers(),
			})
		}
	}
	slices.SortFunc(answer.Names, func(a, b api.ObservedName) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Pod, b.Pod),
			strings.Compare(a.Name, b.Name), strings.Compare(a.App, b.App), a.Port-b.Port)
	})
	return answer
}
