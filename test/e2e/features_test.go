package e2e

import (
	"bytes"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"k8s.io/component-base/featuregate"

	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/test/controlplane"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// TestTheTableOfFeaturesIsThatOfTheAPIServer compares names, stages and defaults of features with those
// that an API server of the same release has in its metrics.
func TestTheTableOfFeaturesIsThatOfTheAPIServer(t *testing.T) {
	t.Parallel()
	if v, err := controlplane.Version(); err != nil || !strings.HasPrefix(v, "v1.37.") {
		t.Skipf("the table is that of 1.37, the control plane is %s (%v)", v, err)
	}
	text, err := harness.SharedCluster(t).Client.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := expfmt.NewTextParser(model.LegacyValidation)
	families, err := p.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	table, compared := config.KnownGates(), 0
	for _, m := range families["kubernetes_feature_enabled"].GetMetric() {
		labels := map[string]string{}
		for _, l := range m.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		name := featuregate.Feature(labels["name"])
		if name == "AllAlpha" || name == "AllBeta" {
			continue
		}
		want, known := table[name]
		switch on := m.GetGauge().GetValue() == 1; {
		case !known:
			t.Errorf("%s (%q) is not in the table", name, labels["stage"])
		case labels["stage"] != string(want.PreRelease):
			t.Errorf("%s: table has stage %q, the API server %q", name, want.PreRelease, labels["stage"])
		case on != want.Default:
			t.Errorf("%s: table has %t, the API server %t", name, want.Default, on)
		}
		compared++
	}
	if compared < 200 {
		t.Errorf("only %d features were compared", compared)
	}
	t.Logf("%d of the table's %d features were compared", compared, len(table))
}
