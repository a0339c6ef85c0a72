package podobjects

import (
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// kind is the kind of an object, as the kubelet's messages name it.
type kind string

const (
	configMap kind = "configmap"
	secret    kind = "secret"
	// These two only on a standalone node: the API server gives them one by one.
	claim  kind = "persistentvolumeclaim"
	volume kind = "persistentvolume"
)

// key names one object.
type key struct {
	kind            kind
	namespace, name string
}

// references returns every ConfigMap and Secret that the pod names: volumes,
// environments of all its containers and secrets to pull images with.
func references(pod *v1.Pod) map[key]struct{} {
	all := map[key]struct{}{}
	add := func(k kind, name string) {
		if name != "" {
			all[key{k, pod.Namespace, name}] = struct{}{}
		}
	}
	for _, s := range pod.Spec.ImagePullSecrets {
		add(secret, s.Name)
	}
	for i := range pod.Spec.Volumes {
		volumeReferences(&pod.Spec.Volumes[i], add)
	}
	for _, c := range pods.AllContainers(pod) {
		envReferences(c.EnvFrom, c.Env, add)
	}
	return all
}

// claimReferences returns every PersistentVolumeClaim that the pod names.
func claimReferences(pod *v1.Pod) []key {
	var all []key
	for i := range pod.Spec.Volumes {
		if c := pod.Spec.Volumes[i].PersistentVolumeClaim; c != nil {
			all = append(all, key{claim, pod.Namespace, c.ClaimName})
		}
	}
	return all
}

func volumeReferences(v *v1.Volume, add func(kind, string)) {
	switch {
	case v.ConfigMap != nil:
		add(configMap, v.ConfigMap.Name)
	case v.Secret != nil:
		add(secret, v.Secret.SecretName)
	case v.Projected != nil:
		for i := range v.Projected.Sources {
			if s := v.Projected.Sources[i].ConfigMap; s != nil {
				add(configMap, s.Name)
			}
			if s := v.Projected.Sources[i].Secret; s != nil {
				add(secret, s.Name)
			}
		}
	case v.CSI != nil && v.CSI.NodePublishSecretRef != nil:
		add(secret, v.CSI.NodePublishSecretRef.Name)
	case v.ISCSI != nil && v.ISCSI.SecretRef != nil:
		add(secret, v.ISCSI.SecretRef.Name)
	}
}

func envReferences(from []v1.EnvFromSource, env []v1.EnvVar, add func(kind, string)) {
	for i := range from {
		if r := from[i].ConfigMapRef; r != nil {
			add(configMap, r.Name)
		}
		if r := from[i].SecretRef; r != nil {
			add(secret, r.Name)
		}
	}
	for i := range env {
		if env[i].ValueFrom == nil {
			continue
		}
		if r := env[i].ValueFrom.ConfigMapKeyRef; r != nil {
			add(configMap, r.Name)
		}
		if r := env[i].ValueFrom.SecretKeyRef; r != nil {
			add(secret, r.Name)
		}
	}
}
