package keyring

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
)

// Objects returns the Secrets that pods refer to.
type Objects interface {
	Secret(ctx context.Context, namespace, name string) (*v1.Secret, error)
}

// Secrets is the keyring of pods' imagePullSecrets: Secrets of the types
// kubernetes.io/dockerconfigjson and kubernetes.io/dockercfg; others are ignored. A
// Secret that cannot be had is left out.
type Secrets struct{ Objects Objects }

// Find implements Ring. The error names the Secret that cannot be read.
func (s *Secrets) Find(ctx context.Context, pod *v1.Pod, repository string) ([]Credential, error) {
	var x Index
	for _, ref := range pod.Spec.ImagePullSecrets {
		if ref.Name == "" {
			continue // from an older API, which allowed an empty name
		}
		secret, err := s.Objects.Secret(ctx, pod.Namespace, ref.Name)
		if err != nil {
			klog.V(2).InfoS("No image pull secret, the pull may not succeed", "pod", klog.KObj(pod), "podUID", pod.UID, "secret", ref.Name, "err", err)
			continue
		}
		logins, err := loginsOf(secret)
		if err != nil {
			return nil, fmt.Errorf("secret %s/%s: %w", pod.Namespace, ref.Name, err)
		}
		x.Add(logins, Source{Secret: &Object{UID: string(secret.UID), Namespace: secret.Namespace, Name: secret.Name}})
	}
	return x.Find(repository), nil
}

// Missing returns the names of the pod's imagePullSecrets that cannot be had, in the
// order of its spec.
func (s *Secrets) Missing(ctx context.Context, pod *v1.Pod) []string {
	var missing []string
	for _, ref := range pod.Spec.ImagePullSecrets {
		if ref.Name == "" {
			continue
		}
		if _, err := s.Objects.Secret(ctx, pod.Namespace, ref.Name); err != nil {
			missing = append(missing, ref.Name)
		}
	}
	return missing
}

// loginsOf returns the logins in a Secret, which may hold none.
func loginsOf(s *v1.Secret) (Logins, error) {
	switch json, cfg := s.Data[v1.DockerConfigJsonKey], s.Data[v1.DockerConfigKey]; {
	case s.Type == v1.SecretTypeDockerConfigJson && len(json) > 0:
		return ParseConfigJSON(json)
	case s.Type == v1.SecretTypeDockercfg && len(cfg) > 0:
		return ParseDockercfg(cfg)
	}
	return nil, nil
}
