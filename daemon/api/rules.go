// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// RuleError is one thing that is wrong with a file of rules. Lines and columns
// count from 1.
type RuleError struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Message string `json:"message"`
}

// String returns the error as compilers write theirs.
func (e RuleError) String() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

// Rule is a rule of a set, or what a set does where no rule decides: its name is then
// default, or midstream.
type Rule struct {
	Name   string `json:"name"`
	Action string `json:"action"`
	Line   int    `json:"line,omitempty"`
	// Hits is how often it decided, or had an effect, since the daemon has started.
	Hits    uint64     `json:"hits"`
	LastHit *time.Time `json:"lastHit,omitempty"`
}

// RuleSet is a set of rules.
type RuleSet struct {
	Name     string `json:"name"`
	Priority int    `json:"priority"`
	Mode     string `json:"mode"` // Enforce or Audit
	File     string `json:"file"`
	Line     int    `json:"line"`
	// Attachments is how many there are that some rule of the set concerns.
	Attachments int    `json:"attachments"`
	Rules       []Rule `json:"rules"`
}

// Rules are the rules that the daemon judges packets by.
type Rules struct {
	// Directory is where they come from, the first of Directories; empty where the daemon
	// has no rules.
	Directory   string   `json:"directory"`
	Directories []string `json:"directories,omitempty"`
	// Loaded is when those in force were read, and absent where none are.
	Loaded *time.Time `json:"loaded,omitempty"`
	// Files are those that they came from.
	Files []string `json:"files"`
	// Errors are what was wrong when the files were read last. Rules in force are then
	// those of before, and where there were none, failure policies decide.
	Errors []RuleError `json:"errors"`
	Sets   []RuleSet   `json:"sets"`
	// Flows are remembered ones, and Undecided those of them that are not decided.
	Flows     int `json:"flows"`
	Undecided int `json:"undecided"`
	// Memory is how many bytes undecided flows take.
	Memory int64 `json:"memory"`
	// Verdicts counts decisions by accept, drop and reject.
	Verdicts map[string]uint64 `json:"verdicts"`
	// ServerNames are absent where no rule of an attachment asks for server.names.
	ServerNames *ServerNames `json:"serverNames,omitempty"`
}

// ServerNames says how the daemon comes to know what pods have resolved. The counts are
// since it has started.
type ServerNames struct {
	// Attachments is how many there are some of whose rules ask for server.names.
	Attachments int `json:"attachments"`
	// Resolvers are the addresses whose DNS answers count; none means that all do.
	Resolvers []string `json:"resolvers"`
	// Questions were asked of resolvers, and Answers named an address.
	Questions uint64 `json:"questions"`
	Answers   uint64 `json:"answers"`
	// Refused were asked of resolvers that are declared, and rules have refused them:
	// RefusedBy, as SET/RULE, the last.
	Refused   uint64 `json:"refused"`
	RefusedBy string `json:"refusedBy,omitempty"`
	// Others were asked of servers whose answers do not count, of Other the last.
	Others uint64 `json:"others"`
	Other  string `json:"other,omitempty"`
}

// RulesState is what a status tells of the rules.
type RulesState struct {
	// Directory is where they come from, the first of Directories.
	Directory   string   `json:"directory"`
	Directories []string `json:"directories,omitempty"`
	// Loaded is when the rules in force were read, and absent where none are.
	Loaded *time.Time `json:"loaded,omitempty"`
	Sets   int        `json:"sets"`
	// Problem is why files are refused; empty for nothing.
	Problem string `json:"problem,omitempty"`
}

// From names the directories for a person to read.
func (s *RulesState) From() string {
	if len(s.Directories) == 0 { // an older daemon
		return s.Directory
	}
	return strings.Join(s.Directories, ", ")
}

// EffectiveRule is one of the rules that concern an attachment, in their order.
type EffectiveRule struct {
	Set    string `json:"set"`
	Rule   string `json:"rule"`
	Action string `json:"action"`
	Mode   string `json:"mode"`
	// When is the condition as it was written; empty for a default.
	When string `json:"when,omitempty"`
}

// EffectiveRules is the answer to a call for those of an attachment.
type EffectiveRules struct {
	Rules []EffectiveRule `json:"rules"`
}

// ObservedName is a name that pods were seen to ask for.
type ObservedName struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	// App is tls, quic, http or dns.
	App     string `json:"app"`
	Name    string `json:"name"`
	Port    int    `json:"port"`
	Verdict string `json:"verdict"` // the last one: accept, drop or reject
	// Addresses are those of the servers that were asked for it, the last first; no
	// more than a few.
	Addresses []netip.Addr `json:"addresses"`
	Count     uint64       `json:"count"`
	Last      time.Time    `json:"last"`
}

// ObservedNames is the answer to a call for names.
type ObservedNames struct {
	Names []ObservedName `json:"names"`
	// Forgotten is how many there was no room for.
	Forgotten uint64 `json:"forgotten"`
}

const (
	pathRules  = "/v1/rules"
	paramSince = "since"
)

// Rules returns the rules in force, and what was wrong with files.
func (c *Client) Rules(ctx context.Context) (Rules, error) {
	var r Rules
	err := c.call(ctx, http.MethodGet, pathRules, nil, nil, &r)
	return r, err
}

// ReloadRules has the daemon read its rules again, and returns those in force then.
// Where the answer has errors, nothing has changed.
func (c *Client) ReloadRules(ctx context.Context) (Rules, error) {
	var r Rules
	err := c.call(ctx, http.MethodPost, pathRules+"/reload", nil, nil, &r)
	return r, err
}

// RulesOf returns the rules that concern an attachment.
func (c *Client) RulesOf(ctx context.Context, key Key) ([]EffectiveRule, error) {
	var r EffectiveRules
	err := c.callKey(ctx, http.MethodGet, key, "/rules", &r)
	return r.Rules, err
}

// Names returns the names that pods asked for within a time until now.
func (c *Client) Names(ctx context.Context, since time.Duration) (ObservedNames, error) {
	var n ObservedNames
	query := "?" + paramSince + "=" + url.QueryEscape(since.String())
	err := c.call(ctx, http.MethodGet, pathRules+"/names"+query, nil, nil, &n)
	return n, err
}

// observeRules adds the calls about rules that change nothing.
func (s *server) observeRules(mux *http.ServeMux) {
	mux.HandleFunc("GET "+pathRules, inTurn(s.lists, s.answer(func(r *http.Request) (any, error) {
		return s.observed.Rules(r.Context())
	})))
	mux.HandleFunc("GET "+pathRules+"/names", inTurn(s.lists, s.answer(s.names)))
	mux.HandleFunc("GET "+pathAttachments+"/{id}/{ifname}/rules",
		inTurn(s.lists, s.answer(s.rulesOf)))
}

func (s *server) rulesOf(r *http.Request) (any, error) {
	key, err := keyOf(r)
	if err != nil {
		return nil, err
	}
	list, err := s.observed.RulesOf(r.Context(), key)
	return EffectiveRules{Rules: append([]EffectiveRule{}, list...)}, err
}

func (s *server) names(r *http.Request) (any, error) {
	since := time.Duration(0)
	if text := r.URL.Query().Get(paramSince); text != "" {
		var err error
		if since, err = time.ParseDuration(text); err != nil || since < 0 {
			return nil, Errorf(CodeInvalidConfig, "%s %.60q: want a duration such as 1h",
				paramSince, text)
		}
	}
	n, err := s.observed.Names(r.Context(), since)
	n.Names = append([]ObservedName{}, n.Names...)
	return n, err
}
