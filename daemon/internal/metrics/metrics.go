// SPDX-License-Identifier: Apache-2.0

// Package metrics shows what the daemon does to Prometheus. It keeps nothing
// but how long calls took: all else is asked for at each scrape, of counters
// that are read without a lock, so that a scrape never makes a packet wait.
package metrics

import (
	"log/slog"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// Metrics are those of one daemon. They are safe for concurrent use.
type Metrics struct {
	registry       *prometheus.Registry
	attach, detach *prometheus.HistogramVec
}

// The results of a call.
const (
	success = "success"
	failure = "failure"
)

// New returns the metrics of the process, which those of a daemon are added to
// by [Metrics.Observe].
func New() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		attach: histogram("nsqueue_attach_duration_seconds",
			"How long it took to begin the inspection of a pod interface, "+
				"also after a restart of the daemon."),
		detach: histogram("nsqueue_detach_duration_seconds",
			"How long it took to end the inspection of a pod interface."),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "nsqueue_build_info",
		Help: "Version of the daemon, in its labels.",
		ConstLabels: prometheus.Labels{
			"version": api.Version(), "goversion": runtime.Version(),
		},
	})
	build.Set(1)
	m.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		build, m.attach, m.detach,
	)
	return m
}

// histogram has a bucket for what is usual, 1 ms, up to a runtime's patience.
func histogram(name, help string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: name, Help: help,
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 2.5, 10},
	}, []string{"result"})
	for _, result := range []string{success, failure} {
		h.WithLabelValues(result) // there from the first scrape on
	}
	return h
}

// Attached counts an attachment that was made, or not.
func (m *Metrics) Attached(took time.Duration, err error) { observe(m.attach, took, err) }

// Detached counts an attachment that was ended.
func (m *Metrics) Detached(took time.Duration, err error) { observe(m.detach, took, err) }

func observe(h *prometheus.HistogramVec, took time.Duration, err error) {
	result := success
	if err != nil {
		result = failure
	}
	h.WithLabelValues(result).Observe(took.Seconds())
}

// Observe adds the metrics of a daemon. Call it once.
func (m *Metrics) Observe(d Daemon) {
	m.registry.MustRegister(newCollector(d))
	if d.Inspectors != nil {
		m.registry.MustRegister(newInspectorCollector(d.Inspectors))
	}
	if d.Rules != nil {
		m.registry.MustRegister(newRuleCollector(&d))
	}
	if d.Labels != nil {
		m.registry.MustRegister(newLabelCollector(d.Labels))
	}
}

// Handler answers scrapes.
func (m *Metrics) Handler(log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelError),
	})
}
