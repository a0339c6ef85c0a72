package server

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
)

// slis count the results of health checks (KEP-3466), each time somebody asks for the health.
type slis struct {
	registry *prometheus.Registry
	last     *prometheus.GaugeVec
	all      *prometheus.CounterVec
}

func newSLIs() *slis {
	s := &slis{
		registry: prometheus.NewRegistry(),
		last: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "kubernetes_healthcheck", Help: "This metric records the result of a single healthcheck.",
		}, []string{"name", "type"}),
		all: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kubernetes_healthchecks_total", Help: "This metric records the results of all healthcheck.",
		}, []string{"name", "type", "status"}),
	}
	s.registry.MustRegister(s.last, s.all)
	return s
}

// note counts one result of a check.
func (s *slis) note(check string, ok bool) {
	const endpoint = "healthz"
	value, status := 1.0, "success"
	if !ok {
		value, status = 0, "error"
	}
	s.last.WithLabelValues(check, endpoint).Set(value)
	s.all.WithLabelValues(check, endpoint, status).Inc()
}

// addTo serves them. DELETE begins anew, as in the kubelet.
func (s *slis) addTo(mux *http.ServeMux) {
	mux.Handle("GET /metrics/slis", newMetricsPage("/metrics/slis", s.registry, 0))
	mux.HandleFunc("DELETE /metrics/slis", func(w http.ResponseWriter, _ *http.Request) {
		s.last.Reset()
		s.all.Reset()
		say(w, http.StatusOK, "metrics reset\n")
	})
}
