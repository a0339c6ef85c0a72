package cgroup

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestOperationsAreCounted(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	k, err := counted(newFake(), r)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{k.write(name{"a"}, Values{}), k.write(name{"b"}, Values{}), k.remove(name{"a"}, false)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if n, err := testutil.GatherAndCount(r, "kubelet_cgroup_manager_duration_seconds"); n != 2 || err != nil {
		t.Errorf("%d operations, %v; want update and destroy", n, err)
	}
}
