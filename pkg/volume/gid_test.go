package volume

import (
	"slices"
	"testing"
)

func TestGroupsOfPersistentVolumes(t *testing.T) {
	needRoot(t)
	for text, want := range map[string][]int64{
		"1234": {1234}, "0": {0}, "": nil, "wheel": nil, "-1": nil, "4294967296": nil, "12 ": nil,
	} {
		c := boundClaim(localVolume(t.TempDir()))
		c.volumes["pv"].Annotations = map[string]string{gidAnnotation: text, "example.com/other": "1"}
		m := newManager(t, Config{Claims: c})
		pod := podOfClaim(false)
		if got := m.Groups(pod); len(got) > 0 {
			t.Errorf("%q: groups %d before the pod has the volume", text, got)
		}
		setUp(t, m, pod)
		if got := m.Groups(pod); !slices.Equal(got, want) {
			t.Errorf("%q: groups %d, want %d", text, got, want)
		}
		// A new agent need not ask for the volume.
		clear(c.volumes)
		again := newManager(t, Config{Root: m.layout.root, Claims: c})
		setUp(t, again, pod)
		if got := again.Groups(pod); !slices.Equal(got, want) {
			t.Errorf("%q: groups %d of the next agent, want %d", text, got, want)
		}
		other := podOfClaim(false)
		other.UID = "other"
		if got := again.Groups(other); got != nil {
			t.Errorf("%q: groups %d of another pod", text, got)
		}
		if err := again.TearDown(t.Context(), pod.UID); err != nil {
			t.Fatal(err)
		}
	}
}
