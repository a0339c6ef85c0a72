package volume

import (
	"errors"
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
)

// Whoever may make pods makes up the names of drivers; the series of the volumes that cannot be mounted stay for good.
func TestDriversThatNobodyHasRegisteredShareTheirSeries(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	drivers := &csiFake{fail: errors.New("driver name not found in the list of registered CSI drivers")}
	m := newManager(t, Config{CSI: drivers, Metrics: r})
	mount := func(driver string) {
		_ = m.SetUp(t.Context(), testPod(v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{CSI: &v1.CSIVolumeSource{Driver: driver}}}))
	}
	for i := range 20 {
		mount(fmt.Sprintf("made-up-%d.example", i))
	}
	mount("d")
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	tries := map[string]uint64{}
	for _, f := range families {
		if f.GetName() != "storage_operation_duration_seconds" {
			continue
		}
		for _, m := range f.Metric {
			for _, l := range m.Label {
				if l.GetName() == "volume_plugin" {
					tries[l.GetValue()] += m.GetHistogram().GetSampleCount()
				}
			}
		}
	}
	if len(tries) != 2 || tries["kubernetes.io/csi"] != 20 || tries["kubernetes.io/csi:d"] != 1 {
		t.Errorf("tries by plug-in: %v, want 20 of kubernetes.io/csi and one of kubernetes.io/csi:d", tries)
	}
}
