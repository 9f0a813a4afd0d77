// SPDX-License-Identifier: Apache-2.0

package trial

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"sigs.k8s.io/yaml"
)

// Expectation is what somebody expects of the flows of a capture. A report is an
// expectation, too: that of the same report.
//
// What identifies a flow is its pod, client, server, protocol, app and name. Each entry
// says as much of it as it likes, and stands for all flows with it, of which there must be
// one. Several entries that say the same stand for as many flows, in their order.
type Expectation struct {
	Flows      []ExpectedFlow `json:"flows"`
	Foreign    *int           `json:"foreign,omitempty"`
	Unreadable *int           `json:"unreadable,omitempty"`
}

// ExpectedFlow is an entry of an expectation. What it does not say may be anything.
type ExpectedFlow struct {
	Pod      *string `json:"pod,omitempty"`
	Client   *string `json:"client,omitempty"`
	Server   *string `json:"server,omitempty"`
	Protocol *string `json:"protocol,omitempty"`
	App      *string `json:"app,omitempty"`

	ExpectedAnswer

	Messages []ExpectedMessage `json:"messages,omitempty"`
	Effects  []Effect          `json:"effects,omitempty"`
}

// ExpectedMessage is one of a flow's messages. A flow that has any in the expectation has
// as many, in this order.
type ExpectedMessage struct {
	ExpectedAnswer

	Type     *string `json:"type,omitempty"`
	Response *bool   `json:"response,omitempty"`
	Method   *string `json:"method,omitempty"`
	Path     *string `json:"path,omitempty"`
}

// ExpectedAnswer is the decision that is expected.
type ExpectedAnswer struct {
	Name    *string `json:"name,omitempty"`
	Verdict *string `json:"verdict,omitempty"`
	RuleSet *string `json:"ruleSet,omitempty"`
	Rule    *string `json:"rule,omitempty"`
	Packet  *int    `json:"packet,omitempty"`
	Error   *string `json:"error,omitempty"`
}

// ParseExpectation reads an expectation from YAML or JSON.
func ParseExpectation(b []byte) (*Expectation, error) {
	var e Expectation
	if err := yaml.UnmarshalStrict(b, &e); err != nil {
		return nil, err
	}
	if e.Flows == nil {
		return nil, errors.New("flows: want a list of flows")
	}
	for i := range e.Flows {
		where := fmt.Sprintf("flows[%d]", i)
		if err := e.Flows[i].validate(where); err != nil {
			return nil, err
		}
		for j := range e.Flows[i].Messages {
			err := e.Flows[i].Messages[j].validate(fmt.Sprintf("%s.messages[%d]", where, j))
			if err != nil {
				return nil, err
			}
		}
	}
	return &e, nil
}

// validate refuses verdicts that no flow can have.
func (a *ExpectedAnswer) validate(where string) error {
	if a.Verdict != nil && strictness(*a.Verdict) < 0 {
		return fmt.Errorf("%s.verdict: want accept, inspect, drop, reject or undecided, got %q",
			where, *a.Verdict)
	}
	return nil
}

// Check returns what the report does not meet of the expectation, a line each.
func (e *Expectation) Check(r *Report) []string {
	var want []expected
	for i := range e.Flows {
		want = append(want, e.Flows[i].expected(fmt.Sprintf("flows[%d]", i)))
	}
	var got []actual
	for _, f := range r.Flows {
		got = append(got, f.actual())
	}
	unmet := compare(want, got)
	counts := []struct {
		name string
		want *int
		got  int
	}{{"foreign", e.Foreign, r.Foreign}, {"unreadable", e.Unreadable, r.Unreadable}}
	for _, n := range counts {
		if n.want != nil && *n.want != n.got {
			unmet = append(unmet, fmt.Sprintf("%s is %d, want %d", n.name, n.got, *n.want))
		}
	}
	return unmet
}

func (f *ExpectedFlow) expected(where string) expected {
	e := expected{where: where}
	e.which.add("pod", f.Pod)
	e.which.add("client", f.Client)
	e.which.add("server", f.Server)
	e.which.add("protocol", f.Protocol)
	e.which.add("app", f.App)
	f.addTo(&e)
	if f.Effects != nil {
		effects := fmt.Sprint(f.Effects)
		e.what.add("effects", &effects)
	}
	for i := range f.Messages {
		e.messages = append(e.messages, f.Messages[i].expected(
			fmt.Sprintf("%s.messages[%d]", where, i)))
	}
	return e
}

func (m *ExpectedMessage) expected(where string) expected {
	e := expected{where: where}
	m.addTo(&e)
	e.what, e.which = slices.Concat(e.which, e.what), nil
	e.what.add("type", m.Type)
	e.what.add("method", m.Method)
	e.what.add("path", m.Path)
	if m.Response != nil {
		response := strconv.FormatBool(*m.Response)
		e.what.add("response", &response)
	}
	return e
}

func (a *ExpectedAnswer) addTo(e *expected) {
	e.which.add("name", a.Name)
	e.what.add("verdict", a.Verdict)
	e.what.add("ruleSet", a.RuleSet)
	e.what.add("rule", a.Rule)
	e.what.add("error", a.Error)
	if a.Packet != nil {
		packet := strconv.Itoa(*a.Packet)
		e.what.add("packet", &packet)
	}
}

func (f *Flow) actual() actual {
	a := actual{name: f.Client + " to " + f.Server, fields: f.Answer.fields()}
	a.fields.add("pod", &f.Pod)
	a.fields.add("client", &f.Client)
	a.fields.add("server", &f.Server)
	a.fields.add("protocol", &f.Protocol)
	a.fields.add("app", &f.App)
	effects := fmt.Sprint(f.Effects)
	a.fields.add("effects", &effects)
	for i := range f.Messages {
		m := &f.Messages[i]
		one := actual{name: fmt.Sprintf("message %d", i+1), fields: m.Answer.fields()}
		one.fields.add("type", &m.Type)
		response := strconv.FormatBool(m.Response)
		one.fields.add("response", &response)
		one.fields.add("method", &m.Method)
		one.fields.add("path", &m.Path)
		a.messages = append(a.messages, one)
	}
	return a
}

func (a *Answer) fields() (f fields) {
	packet := strconv.Itoa(a.Packet)
	f.add("name", &a.Name)
	f.add("verdict", &a.Verdict)
	f.add("ruleSet", &a.RuleSet)
	f.add("rule", &a.Rule)
	f.add("error", &a.Error)
	f.add("packet", &packet)
	return f
}

// equal reports whether two entries identify the same flows.
func (f fields) equal(other fields) bool { return slices.Equal(f, other) }
