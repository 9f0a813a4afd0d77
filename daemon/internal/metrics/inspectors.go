// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// inspectorCollector asks the inspectors outside the daemon at each scrape.
type inspectorCollector struct {
	states func() []api.InspectorState

	connected, packets, connections, malformed *prometheus.Desc
}

func newInspectorCollector(states func() []api.InspectorState) *inspectorCollector {
	return &inspectorCollector{
		states: states,
		connected: desc("inspector_connected", "Whether the inspector outside the daemon is there "+
			"and answers: 1 or 0.", "inspector"),
		packets: desc("inspector_packets_total", "Packets for the inspector outside the daemon, "+
			"by what became of them: answered by it; lost with it; late, because it exceeded its "+
			"budget; away, because it was; overflow, because too many waited. All but the "+
			"answered ones got what onFailure says.", "inspector", "result"),
		connections: desc("inspector_connections_total", "Connections of inspectors, by result.",
			"inspector", "result"),
		malformed: desc("inspector_malformed_total", "Connections that were closed because the "+
			"inspector broke the protocol.", "inspector"),
	}
}

// Describe sends all descriptions.
func (c *inspectorCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.connected, c.packets, c.connections, c.malformed} {
		to <- d
	}
}

// Collect sends the numbers of the moment.
func (c *inspectorCollector) Collect(ch chan<- prometheus.Metric) {
	to := &sink{ch}
	for _, s := range c.states() {
		up := 0.0
		if s.Connected && !s.Stalled {
			up = 1
		}
		to.gauge(c.connected, up, s.Name)
		n := &s.Counters
		to.counter(c.packets, n.Answered, s.Name, "answered")
		to.counter(c.packets, n.Lost, s.Name, "lost")
		to.counter(c.packets, n.Late, s.Name, "late")
		to.counter(c.packets, n.Away, s.Name, "away")
		to.counter(c.packets, n.Overflow, s.Name, "overflow")
		to.counter(c.connections, n.Connections, s.Name, success)
		to.counter(c.connections, n.Refused, s.Name, failure)
		to.counter(c.malformed, n.Malformed, s.Name)
	}
}
