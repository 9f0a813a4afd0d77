// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"cmp"
	"slices"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// refused is a row of the page: what rules refused of a pod, or would have, with the same
// rule and the same name, or address where there was no name.
type refused struct {
	Key       string    `json:"key"`
	Namespace string    `json:"namespace"`
	Pod       string    `json:"pod"`
	Audit     bool      `json:"audit"`
	Rule      string    `json:"rule"`
	Verdict   string    `json:"verdict"`
	Direction string    `json:"direction"`
	Protocol  string    `json:"protocol"`
	Address   string    `json:"address"`
	Port      uint16    `json:"port"`
	App       string    `json:"app"`
	Name      string    `json:"name"`
	Note      string    `json:"note"`
	Count     uint64    `json:"count"`
	Last      time.Time `json:"last"`
}

type refusedKey struct {
	key                          api.Key
	audit                        bool
	rule, verdict, app, name     string
	direction, protocol, address string
	port                         uint16
}

// groupRefused makes rows of events, the newest first.
func groupRefused(events []api.Event) []refused {
	rows := []refused{}
	at := make(map[refusedKey]int)
	for i := range events {
		e := &events[i]
		if e.Kind != api.EventRefusal && e.Kind != api.EventAudit {
			continue
		}
		k := refusedKeyOf(e)
		n, known := at[k]
		if !known {
			n = len(rows)
			at[k] = n
			rows = append(rows, refusedRow(e))
		}
		rows[n].merge(e)
	}
	slices.SortStableFunc(rows, func(a, b refused) int {
		return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.Key, b.Key))
	})
	return rows
}

// refusedKeyOf leaves out the address where there is a name.
func refusedKeyOf(e *api.Event) refusedKey {
	r := &e.Refusal
	k := refusedKey{
		key: e.Key, audit: e.Kind == api.EventAudit, rule: r.Rule, verdict: r.Verdict,
		app: r.App, name: r.Name, direction: r.Direction, protocol: r.Protocol, port: r.Port,
	}
	if r.Name == "" {
		k.address = r.Address
	}
	return k
}

func refusedRow(e *api.Event) refused {
	r := &e.Refusal
	return refused{
		Key: e.Key.String(), Namespace: e.Pod.Namespace, Pod: e.Pod.Name,
		Audit: e.Kind == api.EventAudit, Rule: r.Rule, Verdict: r.Verdict,
		Direction: r.Direction, Protocol: r.Protocol, Port: r.Port, App: r.App, Name: r.Name,
	}
}

// merge adds an event to its row. What is not part of the key is that of the last one.
func (r *refused) merge(e *api.Event) {
	r.Count += e.Refusal.Count + e.Refusal.Suppressed
	if !e.Time.Before(r.Last) {
		r.Last, r.Address, r.Note = e.Time, e.Refusal.Address, e.Refusal.Note
	}
}
