package main

import (
	"fmt"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
)

// objectVolumes is how many volumes a pod has that is compared with one without:
// half of them are ConfigMaps, half Secrets.
const objectVolumes = 10

// volumes measures the start of a pod without volumes and of one with ConfigMaps and
// Secrets, by turns, and returns the median of each.
func (m *meter) volumes(times int) (without, with time.Duration) {
	var objects []string
	for i := range objectVolumes {
		kind := []string{"ConfigMap", "Secret"}[i%2]
		values := map[string]string{"ConfigMap": "data", "Secret": "stringData"}[kind]
		objects = append(objects, fmt.Sprintf("apiVersion: v1\nkind: %s\nmetadata: {name: object%d}\n%s: {a: one, b: two, c: three}\n", kind, i, values))
	}
	m.a.WriteText("objects.yaml", strings.Join(objects, "---\n"))
	defer m.a.Remove("objects.yaml")
	m.one(withObjects(m.pod())) // the agent knows them now
	var plain, mounted []time.Duration
	for range times {
		took, _ := m.one(m.pod())
		plain = append(plain, took)
		took, _ = m.one(withObjects(m.pod()))
		mounted = append(mounted, took)
	}
	return median(plain), median(mounted)
}

// withObjects gives the pod a volume of each object.
func withObjects(p *v1.Pod) *v1.Pod {
	for i := range objectVolumes {
		name := fmt.Sprintf("object%d", i)
		source := v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: v1.LocalObjectReference{Name: name}}}
		if i%2 == 1 {
			source = v1.VolumeSource{Secret: &v1.SecretVolumeSource{SecretName: name}}
		}
		p.Spec.Volumes = append(p.Spec.Volumes, v1.Volume{Name: name, VolumeSource: source})
		c := &p.Spec.Containers[0]
		c.VolumeMounts = append(c.VolumeMounts, v1.VolumeMount{Name: name, MountPath: "/objects/" + name})
	}
	return p
}
