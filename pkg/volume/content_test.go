package volume

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

// A short spec can have one Secret, or the pod's annotations, as the content of any
// number of files.
func TestAShortSpecMakesNoLargeVolumes(t *testing.T) {
	o := theObjects()
	o.configMaps["ns/large"] = &v1.ConfigMap{Data: map[string]string{"k": strings.Repeat("x", 1000<<10)}}
	var keys []v1.KeyToPath
	var notes []v1.DownwardAPIVolumeFile
	var maps, mixed []v1.VolumeProjection
	for i := range 5000 {
		name := fmt.Sprint("f", i)
		note := v1.DownwardAPIVolumeFile{Path: name, FieldRef: &v1.ObjectFieldSelector{FieldPath: "metadata.annotations"}}
		keys = append(keys, v1.KeyToPath{Key: "k", Path: name})
		notes = append(notes, note)
		maps = append(maps, projectedMap("large", v1.KeyToPath{Key: "k", Path: name}))
		mixed = append(mixed, v1.VolumeProjection{DownwardAPI: &v1.DownwardAPIProjection{Items: []v1.DownwardAPIVolumeFile{note}}})
	}
	for name, source := range map[string]v1.VolumeSource{
		"configMap":             mapVolume("large", keys, false),
		"downwardAPI":           {DownwardAPI: &v1.DownwardAPIVolumeSource{Items: notes}},
		"projected maps":        projectedVolume(maps...),
		"projected annotations": projectedVolume(mixed...),
	} {
		t.Run(name, func(t *testing.T) {
			m := newManager(t, Config{Objects: o})
			pod := testPod(v1.Volume{Name: "v", VolumeSource: source})
			pod.Annotations = map[string]string{"k": strings.Repeat("x", 200<<10)}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			room := 4 << 20
			err := m.setUpOne(t.Context(), pod, &pod.Spec.Volumes[0], &room)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, errTooMuch) {
				t.Errorf("error %v", err)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 10*4<<20 {
				t.Errorf("%d MiB were allocated", used>>20)
			}
			if _, err := os.Stat(pathOf(t, m, pod, "v")); err == nil {
				t.Error("the volume was made")
			}
		})
	}
}

func TestAPodHasNotMoreRoomForFilesThanThat(t *testing.T) {
	o := theObjects()
	o.configMaps["ns/large"] = &v1.ConfigMap{Data: map[string]string{"k": strings.Repeat("x", 1000<<10)}}
	var keys []v1.KeyToPath
	for i := range maxContent>>20 + 10 {
		keys = append(keys, v1.KeyToPath{Key: "k", Path: fmt.Sprint("f", i)})
	}
	m := newManager(t, Config{Objects: o})
	if err := m.SetUp(t.Context(), testPod(v1.Volume{Name: "v", VolumeSource: mapVolume("large", keys, false)})); !errors.Is(err, errTooMuch) {
		t.Errorf("error %v", err)
	}
}

func TestTheVolumesOfAPodShareTheRoomForTheirFiles(t *testing.T) {
	m := newManager(t, Config{Objects: theObjects()})
	a, b := v1.Volume{Name: "a", VolumeSource: mapVolume("map", nil, false)}, v1.Volume{Name: "b", VolumeSource: mapVolume("map", nil, false)}
	pod := testPod(a, b)
	room := 7 // of 4 each
	if err := m.setUpOne(t.Context(), pod, &a, &room); err != nil {
		t.Error(err)
	}
	if err := m.setUpOne(t.Context(), pod, &b, &room); !errors.Is(err, errTooMuch) {
		t.Errorf("error %v", err)
	}
}
