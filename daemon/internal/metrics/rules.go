// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/nsqueue/nsqueue/daemon/internal/policy"
	"github.com/nsqueue/nsqueue/daemon/rules"
)

// Rules is what the metrics of rules are asked of.
type Rules interface {
	Numbers() policy.Numbers
}

var _ Rules = (*policy.Policy)(nil)

// ruleCollector asks the rules at each scrape.
type ruleCollector struct {
	rules   Rules
	singles []single

	decisions, verdicts, reloads, age, errors *prometheus.Desc
	// These are nil unless they are asked for.
	refused, hits *prometheus.Desc
}

// single is a series that has no labels.
type single struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(*policy.Numbers) float64
}

func newRuleCollector(d *Daemon) *ruleCollector {
	c := &ruleCollector{
		rules: d.Rules, singles: append(ruleGauges(), ruleCounters()...),
		decisions: desc("rules_decisions_total", "How often rules and defaults of a set decided "+
			"about a flow or message, or had an effect, by action and mode. The rule set is "+
			"nsqueue where no set decided.", "ruleset", "action", "mode"),
		verdicts: desc("rules_verdicts_total", "Flows and messages that were decided, by verdict.",
			"verdict"),
		reloads: desc("rules_reloads_total", "How often files of rules were read, at the start "+
			"too, by result. After a failure, the rules are those of before.", "result"),
		age: desc("rules_age_seconds", "How long ago the rules in force were read. Absent where "+
			"none are in force."),
		errors: desc("rules_parser_errors_total", "Flows and messages whose payload did not tell "+
			"what rules ask for, by app.protocol and app.error.", "protocol", "error"),
	}
	if d.PerPod {
		c.refused = desc("rules_refused_total", "Flows and messages of the pod that were rejected "+
			"or dropped.", "namespace", "pod")
	}
	if d.PerRule {
		c.hits = desc("rules_hits_total", "How often a rule decided, or had an effect.",
			"ruleset", "rule", "action", "mode")
	}
	return c
}

func ruleGauges() []single {
	gauge := func(name, help string, of func(*policy.Numbers) float64) single {
		return single{desc("rules_"+name, help), prometheus.GaugeValue, of}
	}
	return []single{
		gauge("reload_success", "1 if the files of rules were right when they were read last, "+
			"else 0.", func(n *policy.Numbers) float64 {
			if n.Succeeded {
				return 1
			}
			return 0
		}),
		gauge("flows", "Flows that are remembered.",
			func(n *policy.Numbers) float64 { return float64(n.Flows) }),
		gauge("flows_undecided", "Flows that no rule has decided so far.",
			func(n *policy.Numbers) float64 { return float64(n.Undecided) }),
		gauge("memory_bytes", "Bytes that are taken of rules.memory.",
			func(n *policy.Numbers) float64 { return float64(n.Memory) }),
	}
}

func ruleCounters() []single {
	counter := func(name, help string, of func(*policy.Numbers) uint64) single {
		return single{
			desc("rules_"+name+"_total", help), prometheus.CounterValue,
			func(n *policy.Numbers) float64 { return float64(of(n)) },
		}
	}
	return []single{
		counter("checksum_drops", "Packets that were dropped because of a wrong checksum.",
			func(n *policy.Numbers) uint64 { return n.Checksums }),
		counter("outside_drops", "Packets of flows that are not decided, dropped because their "+
			"bytes are too far from those that are awaited.",
			func(n *policy.Numbers) uint64 { return n.Outside }),
		counter("conflicts", "Times that a client sent the same part of a flow twice, with "+
			"other content.", func(n *policy.Numbers) uint64 { return n.Conflicts }),
		counter("subflows", "Further ways of multipath TCP connections, which are refused.",
			func(n *policy.Numbers) uint64 { return n.Subflows }),
		counter("events_dropped", "Event lines that were lost: the file or socket was too slow, "+
			"or not there. Refusals that were too many at once for nsqueuectl events, too.",
			func(n *policy.Numbers) uint64 { return n.Dropped }),
		counter("events_suppressed", "Events that were left out, because one rule had too many "+
			"about one pod.", func(n *policy.Numbers) uint64 { return n.Suppressed }),
	}
}

// Describe implements [prometheus.Collector].
func (c *ruleCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.decisions, c.verdicts, c.reloads, c.age, c.errors, c.refused, c.hits,
	} {
		if d != nil {
			ch <- d
		}
	}
	for i := range c.singles {
		ch <- c.singles[i].desc
	}
}

// Collect implements [prometheus.Collector].
func (c *ruleCollector) Collect(ch chan<- prometheus.Metric) {
	s, n := &sink{ch}, c.rules.Numbers()
	for i := range c.singles {
		one := &c.singles[i]
		ch <- prometheus.MustNewConstMetric(one.desc, one.kind, one.of(&n))
	}
	if n.Age > 0 {
		s.gauge(c.age, n.Age.Seconds())
	}
	s.counter(c.reloads, n.Accepted, success)
	s.counter(c.reloads, n.Failed, failure)
	for _, verdict := range []string{accepted, dropped, rejected} {
		s.counter(c.verdicts, n.Verdicts[verdict], verdict)
	}
	c.collectErrors(s, &n)
	c.collectDecisions(s, &n)
	if c.refused != nil {
		refused := make(sums)
		for pod, count := range n.Refused {
			refused.add(count, pod.Namespace, pod.Name)
		}
		refused.send(s, c.refused, 2)
	}
}

// collectErrors sends those for want of memory from the start, because an alert asks
// whether they grow: a series that begins with 1 does not.
func (c *ruleCollector) collectErrors(s *sink, n *policy.Numbers) {
	errs := make(sums)
	for _, protocol := range rules.Protocols() {
		errs.add(0, protocol, "memory")
	}
	for key, count := range n.Errors {
		errs.add(count, key[0], key[1])
	}
	errs.send(s, c.errors, 2)
}

func (c *ruleCollector) collectDecisions(s *sink, n *policy.Numbers) {
	decisions := make(sums)
	for _, t := range n.Totals {
		decisions.add(t.Count, setLabel(t.Set), t.Action, mode(t.Audit))
	}
	decisions.send(s, c.decisions, 3)
	if c.hits == nil {
		return
	}
	hits := make(sums)
	for _, h := range n.Decisions {
		rule := h.Rule
		if h.Set == "" {
			rule = "end"
		}
		hits.add(h.Count, setLabel(h.Set), rule, h.Action, mode(h.Audit))
	}
	hits.send(s, c.hits, 4)
}

// setLabel returns the name of a set, or as in events, what decides where no set does.
func setLabel(set string) string {
	if set == "" {
		return "nsqueue"
	}
	return set
}

func mode(audit bool) string {
	if audit {
		return "Audit"
	}
	return "Enforce"
}

// sums are counts by values of labels. Names that are shortened to the same ones share a
// series, because two equal ones would fail a scrape.
type sums map[[4]string]uint64

func (m sums) add(n uint64, labels ...string) {
	var key [4]string
	for i, name := range labels {
		key[i] = label(name)
	}
	m[key] += n
}

// send sends those of the first labels.
func (m sums) send(s *sink, d *prometheus.Desc, labels int) {
	for key, n := range m {
		s.counter(d, n, key[:labels]...)
	}
}
