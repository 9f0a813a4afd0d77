// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nsqueue/nsqueue/ctl/internal/suggest"
	"github.com/nsqueue/nsqueue/daemon/api"
)

// patience is how long nsqueued may take for an answer.
const patience = 10 * time.Second

// podPage is what the page of one attachment shows.
type podPage struct {
	api.Description

	// Rules are in the order in which they are asked, with how often they decided for
	// all pods since nsqueued has started.
	Rules []ruleRow `json:"rules"`
	// Names are what the pod has asked for.
	Names []api.ObservedName `json:"names"`
}

type ruleRow struct {
	api.EffectiveRule

	Hits uint64 `json:"hits"`
}

func (s *Server) servePod(w http.ResponseWriter, r *http.Request) {
	key, err := parseKey(r.URL.Query().Get("key"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	p, err := s.pod(ctx, key)
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, p)
}

func parseKey(text string) (api.Key, error) {
	id, ifname, _ := strings.Cut(text, "/")
	key := api.Key{ContainerID: id, Ifname: ifname}
	return key, key.Validate()
}

func (s *Server) pod(ctx context.Context, key api.Key) (*podPage, error) {
	d, err := s.daemon.Describe(ctx, key)
	if err != nil {
		return nil, err
	}
	p := &podPage{Description: d, Rules: []ruleRow{}, Names: []api.ObservedName{}}
	// nsqueued has no rules where it cannot answer these.
	if all, err := s.daemon.Rules(ctx); err == nil && all.Directory != "" {
		if p.Rules, err = s.rulesOf(ctx, key, all); err != nil {
			return nil, err
		}
	}
	names, err := s.daemon.Names(ctx, 0)
	if err != nil {
		return p, nil //nolint:nilerr // no rules look for names
	}
	for _, n := range names.Names {
		if n.Namespace == d.Pod.Namespace && n.Pod == d.Pod.Name {
			p.Names = append(p.Names, n)
		}
	}
	return p, nil
}

func (s *Server) rulesOf(ctx context.Context, key api.Key, all api.Rules) ([]ruleRow, error) {
	effective, err := s.daemon.RulesOf(ctx, key)
	if err != nil {
		return nil, err
	}
	hits := make(map[string]uint64)
	for _, set := range all.Sets {
		for _, rule := range set.Rules {
			hits[set.Name+"/"+rule.Name] = rule.Hits
		}
	}
	rows := make([]ruleRow, 0, len(effective))
	for _, e := range effective {
		rows = append(rows, ruleRow{e, hits[e.Set+"/"+e.Rule]})
	}
	return rows, nil
}

// serveRule answers with a set of rules that accepts what was refused.
func (s *Server) serveRule(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	port, _ := strconv.ParseUint(q.Get("port"), 10, 16) // 0 is none
	refusal := &api.Refusal{
		Rule: q.Get("rule"), Direction: q.Get("direction"), Protocol: q.Get("protocol"),
		Address: q.Get("address"), Port: uint16(port), App: q.Get("app"), Name: q.Get("name"),
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	all, err := s.daemon.Rules(ctx)
	if err != nil {
		writeError(w, err)
		return
	}
	pod := api.Pod{Namespace: q.Get("namespace"), Name: q.Get("pod")}
	set, err := suggest.Accepting(pod, refusal, priorityOf(all, refusal.Rule))
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	text, err := set.YAML()
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write(text) // who has gone needs no answer
}

// priorityOf returns that of the set that a rule is in, and that of sets which name none
// where it is in no set any more.
func priorityOf(all api.Rules, rule string) int {
	name, _, _ := strings.Cut(rule, "/")
	for _, set := range all.Sets {
		if set.Name == name {
			return set.Priority
		}
	}
	return 100
}
