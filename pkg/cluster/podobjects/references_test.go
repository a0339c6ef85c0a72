package podobjects

import (
	"testing"

	v1 "k8s.io/api/core/v1"
)

func local(name string) v1.LocalObjectReference { return v1.LocalObjectReference{Name: name} }

func TestReferencesAreFoundWhereverAPodHasThem(t *testing.T) {
	env := func(name string) ([]v1.EnvFromSource, []v1.EnvVar) {
		return []v1.EnvFromSource{
				{ConfigMapRef: &v1.ConfigMapEnvSource{LocalObjectReference: local("from-map-" + name)}},
				{SecretRef: &v1.SecretEnvSource{LocalObjectReference: local("from-secret-" + name)}},
			}, []v1.EnvVar{
				{Name: "plain", Value: "x"},
				{ValueFrom: &v1.EnvVarSource{ConfigMapKeyRef: &v1.ConfigMapKeySelector{LocalObjectReference: local("key-map-" + name)}}},
				{ValueFrom: &v1.EnvVarSource{SecretKeyRef: &v1.SecretKeySelector{LocalObjectReference: local("key-secret-" + name)}}},
				{ValueFrom: &v1.EnvVarSource{FieldRef: &v1.ObjectFieldSelector{}}},
			}
	}
	pod := &v1.Pod{}
	pod.Namespace = "ns"
	var init, main v1.Container
	var debug v1.EphemeralContainer
	init.EnvFrom, init.Env = env("init")
	main.EnvFrom, main.Env = env("main")
	debug.EnvFrom, debug.Env = env("debug")
	pod.Spec = v1.PodSpec{
		InitContainers: []v1.Container{init}, Containers: []v1.Container{main, main}, EphemeralContainers: []v1.EphemeralContainer{debug},
		ImagePullSecrets: []v1.LocalObjectReference{local("pull"), local("")},
		Volumes: []v1.Volume{
			{VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}},
			{VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: local("volume-map")}}},
			{VolumeSource: v1.VolumeSource{Secret: &v1.SecretVolumeSource{SecretName: "volume-secret"}}},
			{VolumeSource: v1.VolumeSource{CSI: &v1.CSIVolumeSource{NodePublishSecretRef: &v1.LocalObjectReference{Name: "csi"}}}},
			{VolumeSource: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{
				{ConfigMap: &v1.ConfigMapProjection{LocalObjectReference: local("projected-map")}},
				{Secret: &v1.SecretProjection{LocalObjectReference: local("projected-secret")}},
				{ServiceAccountToken: &v1.ServiceAccountTokenProjection{}},
			}}}},
		},
	}
	got := references(pod)
	want := []key{
		{secret, "ns", "pull"}, {configMap, "ns", "volume-map"}, {secret, "ns", "volume-secret"}, {secret, "ns", "csi"},
		{configMap, "ns", "projected-map"}, {secret, "ns", "projected-secret"},
	}
	for _, c := range []string{"init", "main", "debug"} {
		want = append(want, key{configMap, "ns", "from-map-" + c}, key{secret, "ns", "from-secret-" + c},
			key{configMap, "ns", "key-map-" + c}, key{secret, "ns", "key-secret-" + c})
	}
	for _, k := range want {
		if _, ok := got[k]; !ok {
			t.Errorf("%v was not found", k)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d references, want %d: %v", len(got), len(want), got)
	}
}
