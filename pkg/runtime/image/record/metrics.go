package record

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/metricset"
)

// What MayUse found, in the kubelet's words.
const (
	policyAllowed    = "credentialPolicyAllowed"
	recordFound      = "credentialRecordFound"
	mustAuthenticate = "mustAuthenticate"
	checkFailed      = "error"
)

func (s *Store) export(r prometheus.Registerer) error {
	set := metricset.New(r)
	s.checks = set.Counters("kubelet_imagemanager_image_mustpull_checks_total",
		"How many times it was looked up whether a pod may use an image that is present, by what was found", "result")
	count := func(n func() int) func() float64 {
		return func() float64 {
			s.mu.Lock()
			defer s.mu.Unlock()
			return float64(n())
		}
	}
	set.Read("kubelet_imagemanager_ondisk_pulledrecords", "How many images there are records of: who may use them", count(func() int { return len(s.records) }))
	set.Read("kubelet_imagemanager_ondisk_pullintents", "How many images are being pulled, or were when an agent died", count(func() int { return len(s.intents) }))
	if err := set.Err(); err != nil {
		return fmt.Errorf("records of images: %w", err)
	}
	return nil
}

func (s *Store) checked(result string) { s.checks.WithLabelValues(result).Inc() }
