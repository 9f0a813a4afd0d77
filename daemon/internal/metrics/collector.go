// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/registry"
	"github.com/nsqueue/nsqueue/internal/printable"
)

// Source is what the metrics are asked of.
type Source interface {
	List(ctx context.Context) ([]api.Attachment, error)
	Total() api.Counters
	Problems() []api.Problem
	Orphans() uint64
	EventCounts() map[api.EventKind]uint64
	Queues() registry.QueueTotals
	ProgramRestarts() uint64
}

var _ Source = (*registry.Registry)(nil)

// Daemon is what the metrics are about.
type Daemon struct {
	Source
	// Hook that serves new attachments.
	Hook string
	// FailurePolicy of attachments that name none.
	FailurePolicy api.Policy
	// Restarts is how often the supervisor had to start a daemon again.
	Restarts int
	// PerPod says whether each attachment has series of its own, and PerRule whether each
	// rule has.
	PerPod, PerRule bool
	// Handover tells what the supervisor is to others, nil where there can be none. The
	// function may be nil as well.
	Handover func() *api.Handover
	// Rules are nil where the daemon has none, and no series of them then.
	Rules Rules
	// Labels tells of the source of pods' labels, nil as are Rules.
	Labels func() *api.LabelsState
	// Inspectors says how those outside the daemon are; nil where it has none.
	Inspectors func() []api.InspectorState
}

// collector asks the daemon at each scrape.
type collector struct {
	daemon Daemon
	totals []total
	pods   *podDescs // nil for none

	packets, attachments, problems, orphans, events, restarts, info *prometheus.Desc
	waiting, fullness, refused, inspecting                          *prometheus.Desc
	supervisors, takeOvers, refusals                                *prometheus.Desc
	programs, programRestarts                                       *prometheus.Desc
}

// total is a counter of the whole daemon that has no labels.
type total struct {
	desc *prometheus.Desc
	of   func(*api.Counters) uint64
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("nsqueue_"+name, help, labels, nil)
}

func newCollector(d Daemon) *collector {
	c := &collector{
		daemon: d, totals: totals(),
		packets: desc("packets_total", "Packets that were inspected, by verdict.", "verdict"),
		attachments: desc("attachments", "Pod interfaces that are attached, by state, hook and "+
			"failure policy.", "state", "hook", "policy"),
		problems: desc("problems", "Pod interfaces whose packets are not inspected as they should "+
			"be, by failure policy: under Ignore they pass uninspected, under Fail they are "+
			"dropped, unless they go past the hook (events pastHook).",
			"policy"),
		inspecting: desc("inspect_seconds_total", "How long inspectors took for packets, "+
			"all queues together."),
		orphans: desc("orphaned_packets_total", "Packets that an earlier daemon had read but not "+
			"answered when it died. They got the failure policy's verdict."),
		events:   desc("events_total", "What happened to pod interfaces, by kind.", "kind"),
		restarts: desc("supervisor_restarts_total", "Daemons that the supervisor started again."),
		info: desc("daemon_info", "Hook and failure policy of new attachments, in its labels.",
			"hook", "policy"),
		waiting: desc("queue_waiting_packets", "Packets that waited for a verdict when the queues "+
			"were verified last, at most 30 s ago."),
		fullness: desc("queue_fullness_ratio", "Waiting packets to the length of the queue, in "+
			"the fullest queue, when the queues were verified last."),
		refused: desc("queue_dropped_packets_total", "Packets that the kernel dropped because a "+
			"queue or its socket's buffer was full. Packets that it accepted for that reason "+
			"under Ignore are not counted.", "reason"),
	}
	c.supervisors = desc("supervisors", "Supervisors that can hand over to each other, by "+
		"role. One of them is active.", "role")
	c.takeOvers = desc("supervisor_takeovers_total", "How often this supervisor has taken over "+
		"from another one.")
	c.refusals = desc("supervisor_takeovers_refused_total", "Supervisors that wanted to take "+
		"over from this one and did not, since it became active.")
	c.programs = desc("programs", "Programs that run for pods, by inspector and by whether "+
		"packets go to them (reads) or not (away).", "inspector", "state")
	c.programRestarts = desc("program_restarts_total", "Programs of pods that were started "+
		"again because they had ended or hung.")
	if d.PerPod {
		c.pods = newPodDescs()
	}
	return c
}

func totals() []total {
	return []total{
		{
			desc("bytes_total", "Bytes of packets that were inspected."),
			func(n *api.Counters) uint64 { return n.Bytes },
		},
		{
			desc("settled_packets_total", "Packets answered with the request to settle "+
				"their flow."),
			func(n *api.Counters) uint64 { return n.Settled },
		},
		{
			desc("untold_rejects_total", "Rejected packets of which an end was not told: there "+
				"were more than are answered, or the pod's kernel took no answer."),
			func(n *api.Counters) uint64 { return n.Untold },
		},
		{
			desc("malformed_packets_total", "Packets that got the failure policy's verdict "+
				"without inspection, or whose replacement was refused."),
			func(n *api.Counters) uint64 { return n.Malformed },
		},
		{
			desc("inspector_panics_total", "Panics of the inspector; the packet or batch that "+
				"it had got the failure policy's verdict."),
			func(n *api.Counters) uint64 { return n.Panics },
		},
		{
			desc("inspector_overruns_total", "Overruns of the inspector's time budget; each such "+
				"batch of packets got the failure policy's verdict."),
			func(n *api.Counters) uint64 { return n.Overruns },
		},
		{
			desc("flushed_verdicts_total", "Verdicts that came when the kernel had dropped the "+
				"packets already, because a program in the netns unregistered a hook."),
			func(n *api.Counters) uint64 { return n.Flushed },
		},
		{
			desc("deferred_packets_total", "Packets that the inspector kept to answer them later."),
			func(n *api.Counters) uint64 { return n.Deferred },
		},
		{
			desc("expired_packets_total", "Deferred packets that got the failure policy's "+
				"verdict, because their limit had passed or inspection ended."),
			func(n *api.Counters) uint64 { return n.Expired },
		},
		{
			desc("undeferred_packets_total", "Packets that the inspector could not keep to answer "+
				"them later, because too many were kept."),
			func(n *api.Counters) uint64 { return n.Undeferred },
		},
		{
			desc("away_packets_total", "Packets for a program that did not read at that time. "+
				"What is configured (onFailure) decided about them."),
			func(n *api.Counters) uint64 { return n.Away },
		},
		{
			desc("queue_errors_total", "Other errors that the kernel reported on queue sockets."),
			func(n *api.Counters) uint64 { return n.Errors },
		},
	}
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.packets, c.attachments, c.problems, c.orphans, c.events, c.restarts, c.info,
		c.waiting, c.fullness, c.refused, c.inspecting, c.supervisors, c.takeOvers, c.refusals,
		c.programs, c.programRestarts,
	} {
		ch <- d
	}
	for _, t := range c.totals {
		ch <- t.desc
	}
	if c.pods != nil {
		c.pods.describe(ch)
	}
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := &sink{ch}
	c.collectCounters(s)
	c.collectQueues(s)
	s.gauge(c.info, 1, c.daemon.Hook, string(c.daemon.FailurePolicy))
	s.counter(c.restarts, uint64(c.daemon.Restarts))
	s.counter(c.orphans, c.daemon.Orphans())
	c.collectHandover(s)
	s.counter(c.programRestarts, c.daemon.ProgramRestarts())
	counts := c.daemon.EventCounts()
	for _, kind := range api.EventKinds() {
		s.counter(c.events, counts[kind], string(kind))
	}
	problems := make(map[api.Policy]int)
	for _, p := range c.daemon.Problems() {
		if !p.Inspector { // which has counters of its own, and inspects the others
			problems[p.FailurePolicy]++
		}
	}
	for _, policy := range []api.Policy{api.Ignore, api.Fail} {
		s.gauge(c.problems, float64(problems[policy]), string(policy))
	}
	list, err := c.daemon.List(context.Background())
	if err != nil {
		ch <- prometheus.NewInvalidMetric(c.attachments, err)
		return
	}
	c.collectAttachments(s, list)
	c.collectPrograms(s, list)
}

// collectPrograms counts programs by what they do.
func (c *collector) collectPrograms(s *sink, list []api.Attachment) {
	type class struct{ name, state string }
	classes := make(map[class]int)
	for i := range list {
		for _, p := range list[i].Programs {
			state := "away"
			if p.Ready {
				state = "reads"
			}
			classes[class{p.Name, state}]++
		}
	}
	for k, n := range classes {
		s.gauge(c.programs, float64(n), k.name, k.state)
	}
}

// collectHandover has no series where no other supervisor can take over.
func (c *collector) collectHandover(s *sink) {
	if c.daemon.Handover == nil {
		return
	}
	h := c.daemon.Handover()
	if h == nil {
		return
	}
	roles := map[api.SupervisorRole]int{api.RoleActive: 0, api.RoleStandby: 0}
	roles[h.Role]++
	for i := range h.Peers {
		roles[h.Peers[i].Role]++
	}
	for role, n := range roles {
		s.gauge(c.supervisors, float64(n), string(role))
	}
	s.counter(c.takeOvers, uint64(h.TakeOvers))
	s.counter(c.refusals, uint64(h.Refusals))
}

func (c *collector) collectCounters(s *sink) {
	n := c.daemon.Total()
	s.counter(c.packets, n.Accepted, accepted)
	s.counter(c.packets, n.Dropped, dropped)
	s.counter(c.packets, n.Queued, queued)
	s.counter(c.packets, n.Rejected, rejected)
	s.seconds(c.inspecting, n.InspectNanoseconds)
	for _, t := range c.totals {
		s.counter(t.desc, t.of(&n))
	}
}

func (c *collector) collectQueues(s *sink) {
	q := c.daemon.Queues()
	s.gauge(c.waiting, float64(q.Waiting))
	s.gauge(c.fullness, q.Fullest)
	s.counter(c.refused, q.QueueFull, "queue")
	s.counter(c.refused, q.SocketFull, "socket")
}

func (c *collector) collectAttachments(s *sink, list []api.Attachment) {
	type class struct {
		state  api.State
		hook   string
		policy api.Policy
	}
	classes := make(map[class]int)
	for i := range list {
		a := &list[i]
		classes[class{a.State, a.Hook, a.FailurePolicy}]++
		if c.pods != nil {
			c.pods.collect(s, a)
		}
	}
	if len(list) == 0 { // a count of none rather than none at all
		classes[class{api.Active, c.daemon.Hook, c.daemon.FailurePolicy}] = 0
	}
	for k, n := range classes {
		s.gauge(c.attachments, float64(n), string(k.state), k.hook, string(k.policy))
	}
}

// The verdicts.
const (
	accepted = "accept"
	dropped  = "drop"
	queued   = "queue"
	rejected = "reject"
)

// podDescs are the series that each attachment has.
type podDescs struct{ packets, bytes, settled, flushed, inspecting *prometheus.Desc }

func newPodDescs() *podDescs {
	labels := []string{"namespace", "pod", "container_id", "interface"}
	return &podDescs{
		packets: desc("attachment_packets_total", "Packets of the pod interface that were "+
			"inspected, by verdict. Interfaces in one netns share their counters.",
			append(labels, "verdict")...),
		bytes: desc("attachment_bytes_total", "Bytes of packets of the pod interface that were "+
			"inspected.", labels...),
		settled: desc("attachment_settled_packets_total", "Packets of the pod interface answered "+
			"with the request to settle their flow.", labels...),
		flushed: desc("attachment_flushed_verdicts_total", "Verdicts about packets of the pod "+
			"interface that came when the kernel had dropped the packets already.", labels...),
		inspecting: desc("attachment_inspect_seconds_total", "How long the inspector took for "+
			"packets of the pod interface.", labels...),
	}
}

func (p *podDescs) describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		p.packets, p.bytes, p.settled, p.flushed, p.inspecting,
	} {
		ch <- d
	}
}

func (p *podDescs) collect(s *sink, a *api.Attachment) {
	n := &a.Counters
	namespace, pod := label(a.Pod.Namespace), label(a.Pod.Name)
	id, ifname := label(a.ContainerID), label(a.Ifname)
	for verdict, count := range map[string]uint64{
		accepted: n.Accepted, dropped: n.Dropped, queued: n.Queued,
		rejected: n.Rejected,
	} {
		s.counter(p.packets, count, namespace, pod, id, ifname, verdict)
	}
	s.counter(p.bytes, n.Bytes, namespace, pod, id, ifname)
	s.counter(p.settled, n.Settled, namespace, pod, id, ifname)
	s.counter(p.flushed, n.Flushed, namespace, pod, id, ifname)
	s.seconds(p.inspecting, n.InspectNanoseconds, namespace, pod, id, ifname)
}

// maxLabel is the length of the longest name that Kubernetes gives.
const maxLabel = 253

// label returns what others have named as the value of a label, which must be
// UTF-8. Two names are never escaped alike: two equal series would fail a scrape.
func label(name string) string {
	name = printable.Line(strings.ReplaceAll(name, `\`, `\\`))
	if len(name) <= maxLabel {
		return name
	}
	return strings.ToValidUTF8(name[:maxLabel], "")
}

// sink takes the metrics of a scrape.
type sink struct{ ch chan<- prometheus.Metric }

func (s *sink) counter(d *prometheus.Desc, v uint64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

func (s *sink) seconds(d *prometheus.Desc, nanoseconds uint64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(nanoseconds)/1e9,
		labels...)
}

func (s *sink) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}
