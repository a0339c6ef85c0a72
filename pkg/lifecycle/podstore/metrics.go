package podstore

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/metricset"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// Export has the store's pods counted whenever somebody scrapes r.
func Export(s *Store, r prometheus.Registerer) error {
	set := metricset.New(r)
	set.ReadAll("kubelet_desired_pods", "How many pods this node is to run, static ones and others", []string{"static"}, func(give metricset.Give) {
		static, others := s.count()
		give(float64(static), "true")
		give(float64(others), "")
	})
	set.Read("kubelet_mirror_pods", "How many mirror pods show this node's static pods at the API server", func() float64 {
		s.mu.RLock()
		defer s.mu.RUnlock()
		return float64(len(s.mirrors.byUID))
	})
	set.Read("kubelet_managed_ephemeral_containers", "How many ephemeral containers this node's pods have", s.ephemeral)
	if err := set.Err(); err != nil {
		return fmt.Errorf("pod store: %w", err)
	}
	return nil
}

func (s *Store) count() (static, others int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, p := range s.pods.byUID {
		if pods.IsStatic(p) {
			static++
		} else {
			others++
		}
	}
	return static, others
}

func (s *Store) ephemeral() (n float64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, p := range s.pods.byUID {
		n += float64(len(p.Spec.EphemeralContainers))
	}
	return n
}
