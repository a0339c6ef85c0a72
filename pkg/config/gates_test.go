package config

import (
	"testing"

	utilfeature "k8s.io/apiserver/pkg/util/feature"
	clientfeatures "k8s.io/client-go/features"
	"k8s.io/component-base/featuregate"
	logsapi "k8s.io/component-base/logs/api/v1"
	metricsfeatures "k8s.io/component-base/metrics/features"

	_ "k8s.io/apiserver/pkg/features" // registers those of API servers
)

// TestTheTableOfFeaturesIsThatOfTheLibraries compares what can be had without k8s.io/kubernetes.
func TestTheTableOfFeaturesIsThatOfTheLibraries(t *testing.T) {
	libraries := featuregate.NewFeatureGate()
	for name, add := range map[string]func(featuregate.MutableVersionedFeatureGate) error{"logs": logsapi.AddFeatureGates, "metrics": metricsfeatures.AddFeatureGates} {
		if err := add(libraries); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	all := libraries.GetAll()
	for name, spec := range utilfeature.DefaultMutableFeatureGate.GetAll() {
		all[name] = spec
	}
	var client clientRegistry
	if err := clientfeatures.AddVersionedFeaturesToExistingFeatureGates(&client); err != nil {
		t.Fatal(err)
	}
	for name, versions := range client {
		newest := versions[len(versions)-1]
		all[featuregate.Feature(name)] = featuregate.FeatureSpec{Default: newest.Default, LockToDefault: newest.LockToDefault}
	}
	compared := 0
	for name, want := range all {
		if name == "AllAlpha" || name == "AllBeta" {
			continue
		}
		got, known := knownGates[name]
		if !known || got.Default != want.Default || got.LockToDefault != want.LockToDefault {
			t.Errorf("%s: table has %+v (%t), the library %+v", name, got, known, want)
		}
		compared++
	}
	if compared < 40 {
		t.Errorf("only %d features were compared", compared)
	}
	for _, name := range append(ownGates, absentGates...) {
		if _, known := knownGates[name]; !known {
			t.Errorf("%s is not in the table", name)
		}
	}
}

// clientRegistry takes in client-go's features.
type clientRegistry map[clientfeatures.Feature]clientfeatures.VersionedSpecs

func (r *clientRegistry) Add(map[clientfeatures.Feature]clientfeatures.FeatureSpec) error { return nil }
func (r *clientRegistry) AddVersioned(in map[clientfeatures.Feature]clientfeatures.VersionedSpecs) error {
	*r = in
	return nil
}

func TestAllBetaTurnsOffWhatIsNotNamed(t *testing.T) {
	for name, want := range map[string]bool{"AllBeta=false": false, "AllBeta=false,MemoryQoS=true": true, "": true, "MemoryQoS=false": false} {
		c, _ := mustLoad(t, "--feature-gates="+name)
		if got := c.Enabled(MemoryQoS); got != want {
			t.Errorf("%q: MemoryQoS is %t", name, got)
		}
	}
}
