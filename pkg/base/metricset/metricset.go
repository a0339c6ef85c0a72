// Package metricset makes the metrics of one room and registers them together, so that a room says of
// each metric its name, what it means, and its labels, and nothing else:
//
//	set := metricset.New(cfg.Metrics)
//	m := metrics{started: set.Counter("kubelet_started_pods_total", "..."), ...}
//	return m, set.Err()
//
// What is a state and no event is read when somebody scrapes: Read, ReadAll.
package metricset

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Set registers what it makes. It is used by one goroutine, once, when a room is made; what it makes is
// safe for concurrent use.
type Set struct {
	registry prometheus.Registerer
	errs     []error
}

// New returns a Set that registers with r. With nil everything works, and nobody sees it.
func New(r prometheus.Registerer) *Set { return &Set{registry: r} }

// Err returns why some of the metrics could not be registered: a name that is taken.
func (s *Set) Err() error {
	if len(s.errs) == 0 {
		return nil
	}
	return fmt.Errorf("register metrics: %w", errors.Join(s.errs...))
}

// Add registers a collector that was made elsewhere.
func (s *Set) Add(c prometheus.Collector) {
	if s.registry == nil {
		return
	}
	if err := s.registry.Register(c); err != nil {
		s.errs = append(s.errs, err)
	}
}

// Counter counts events.
func (s *Set) Counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	s.Add(c)
	return c
}

// Counters counts events by labels, whose values must be few.
func (s *Set) Counters(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	s.Add(c)
	return c
}

// Gauge is a value that is set when it changes.
func (s *Set) Gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	s.Add(g)
	return g
}

// Gauges is such a value by labels.
func (s *Set) Gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	s.Add(g)
	return g
}

// Histogram counts values by size; buckets nil are Prometheus' own, from 5 ms to 10 s.
func (s *Set) Histogram(name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	s.Add(h)
	return h
}

// Histograms is such a count by labels.
func (s *Set) Histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	s.Add(h)
	return h
}

// Read is a gauge that is read at each scrape.
func (s *Set) Read(name, help string, value func() float64) {
	s.ReadAll(name, help, nil, func(give Give) { give(value()) })
}

// Give takes in one value of a gauge, with the values of its labels in their order; no two with the same.
type Give func(value float64, labels ...string)

// ReadAll is a gauge with labels, all of whose values are read at each scrape. read must not block: it is
// called by each scraper, also by several at once.
func (s *Set) ReadAll(name, help string, labels []string, read func(Give)) {
	s.Add(state{prometheus.NewDesc(name, help, labels, nil), read})
}

type state struct {
	desc *prometheus.Desc
	read func(Give)
}

// Describe implements prometheus.Collector.
func (s state) Describe(out chan<- *prometheus.Desc) { out <- s.desc }

// Collect implements prometheus.Collector.
func (s state) Collect(out chan<- prometheus.Metric) {
	s.read(func(value float64, labels ...string) {
		m, err := prometheus.NewConstMetric(s.desc, prometheus.GaugeValue, value, labels...)
		if err != nil {
			m = prometheus.NewInvalidMetric(s.desc, err)
		}
		out <- m
	})
}
