// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// labelCollector asks the source of pods' labels at each scrape.
type labelCollector struct {
	state func() *api.LabelsState

	connected, connections, pods, late *prometheus.Desc
}

func newLabelCollector(state func() *api.LabelsState) *labelCollector {
	return &labelCollector{
		state: state,
		connected: desc("labels_connected", "1 if the container runtime tells of the labels of "+
			"pods, else 0. Absent where nsqueued does not ask it."),
		connections: desc("labels_connections_total", "How often nsqueued was connected to the "+
			"container runtime that tells of labels."),
		pods: desc("labels_pods_total", "Pods that the container runtime told of when they "+
			"started. Their rules were complete before their first container."),
		late: desc("labels_late_pods_total", "Pods that have started before the rules of their "+
			"labels were in force."),
	}
}

// Describe implements [prometheus.Collector].
func (c *labelCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.connected, c.connections, c.pods, c.late} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *labelCollector) Collect(ch chan<- prometheus.Metric) {
	state := c.state()
	if state.Source == api.LabelsNone {
		return
	}
	s := &sink{ch}
	connected := 0.0
	if state.Connected {
		connected = 1
	}
	s.gauge(c.connected, connected)
	s.counter(c.connections, state.Connections)
	s.counter(c.pods, state.Pods)
	s.counter(c.late, state.Late)
}
