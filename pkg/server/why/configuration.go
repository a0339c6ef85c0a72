package why

import (
	"fmt"
	"regexp"
	"strings"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// missingKey and missingObject are the kubelet's words.
var (
	missingKey    = regexp.MustCompile(`^couldn't find key (\S+) in (ConfigMap|Secret) \S+?/(\S+)$`)
	missingObject = regexp.MustCompile(`^(configmap|secret) "([^"]+)" not found`)
)

// configuration is about containers whose configuration cannot be made: an object or key is missing, a user is not
// allowed, a path is not possible.
func (l *look) configuration(f *Finding, s *v1.ContainerStatus, field string) {
	m := s.State.Waiting.Message
	c, _ := pods.Container(l.pod, s.Name)
	if c == nil {
		c = &v1.Container{}
	}
	if found := missingKey.FindStringSubmatch(m); found != nil {
		l.key(f, c, field, found[2], found[3], found[1])
		return
	}
	if found := missingObject.FindStringSubmatch(m); found != nil {
		l.envObject(f, c, field, map[string]string{"configmap": "ConfigMap", "secret": "Secret"}[found[1]], found[2])
		return
	}
	switch {
	case strings.Contains(m, "runAsNonRoot"):
		field = l.nonRootField(c, field, "runAsNonRoot")
		f.Fix = "set runAsUser beside it to a number other than 0, or remove " + field
	case strings.Contains(m, "non-root policy"):
		field = l.nonRootField(c, field, "runAsUser")
		f.Fix = "set " + field + " to a number other than 0, or remove runAsNonRoot"
	case strings.Contains(m, "recursive read-only"):
		field = mountField(c, field, "recursiveReadOnly", func(v *v1.VolumeMount) bool {
			return v.RecursiveReadOnly != nil && *v.RecursiveReadOnly == v1.RecursiveReadOnlyEnabled
		})
		f.Fix = "set " + field + " to IfPossible, or remove it"
	case strings.Contains(m, "env file"):
		for i := range c.Env {
			if c.Env[i].ValueFrom != nil && c.Env[i].ValueFrom.FileKeyRef != nil {
				field = fmt.Sprintf("%s.env[%d].valueFrom.fileKeyRef", field, i)
				break
			}
		}
		f.Fix = "have an init container write that file, or correct " + field + ".path"
	case strings.HasPrefix(m, "missing value for ") || strings.Contains(m, "subPathExpr"):
		field = mountField(c, field, "subPathExpr", func(v *v1.VolumeMount) bool { return v.SubPathExpr != "" })
		f.Fix = "define in env what it refers to, or correct " + field
	case strings.Contains(m, "subPath"):
		field = mountField(c, field, "subPath", func(v *v1.VolumeMount) bool { return v.SubPath != "" })
		f.Fix = "make " + field + " lead to something within the volume"
	case strings.Contains(m, "seccomp") || strings.Contains(m, ".json"):
		field = l.profileField(c, field)
		f.Fix = "put the profile into the kubelet's seccomp directory on the node, or correct " + field
	default:
		f.Fix = "correct " + field
	}
	f.Where = l.where(field)
	m, _, _ = strings.Cut(m, " (pod: ") // who that is, is said already
	f.Cause = fmt.Sprintf("%s: %s (%s): %s", s.State.Waiting.Reason, l.title(s.Name), field, m)
}

// key is about a variable of the environment whose object lacks the key.
func (l *look) key(f *Finding, c *v1.Container, field, kind, name, key string) {
	for i := range c.Env {
		from := c.Env[i].ValueFrom
		switch {
		case from == nil:
			continue
		case kind == "ConfigMap" && from.ConfigMapKeyRef != nil && from.ConfigMapKeyRef.Name == name && from.ConfigMapKeyRef.Key == key:
			field = fmt.Sprintf("%s.env[%d].valueFrom.configMapKeyRef.key", field, i)
		case kind == "Secret" && from.SecretKeyRef != nil && from.SecretKeyRef.Name == name && from.SecretKeyRef.Key == key:
			field = fmt.Sprintf("%s.env[%d].valueFrom.secretKeyRef.key", field, i)
		default:
			continue
		}
		break
	}
	f.Cause = fmt.Sprintf("CreateContainerConfigError: %s wants key %s of %s %s, which has none of that name (%s)", l.title(c.Name), key, kind, name, field)
	if keys, found := l.in.Evidence.Keys(l.ctx, kind, l.pod.Namespace, name); found {
		f.Evidence = keysOf(kind, name, keys)
	}
	f.Fix = fmt.Sprintf("add the key %s to %s %s, or correct %s", key, kind, name, field)
	f.Where, f.AtOnce = l.where(field), "the "+kind+" changes"
}

// envObject is about a container whose ConfigMap or Secret is missing.
func (l *look) envObject(f *Finding, c *v1.Container, field, kind, name string) {
	for i := range c.EnvFrom {
		e := &c.EnvFrom[i]
		switch {
		case kind == "ConfigMap" && e.ConfigMapRef != nil && e.ConfigMapRef.Name == name:
			field = fmt.Sprintf("%s.envFrom[%d].configMapRef.name", field, i)
		case kind == "Secret" && e.SecretRef != nil && e.SecretRef.Name == name:
			field = fmt.Sprintf("%s.envFrom[%d].secretRef.name", field, i)
		default:
			continue
		}
		break
	}
	for i := range c.Env {
		from := c.Env[i].ValueFrom
		switch {
		case from == nil:
			continue
		case kind == "ConfigMap" && from.ConfigMapKeyRef != nil && from.ConfigMapKeyRef.Name == name:
			field = fmt.Sprintf("%s.env[%d].valueFrom.configMapKeyRef.name", field, i)
		case kind == "Secret" && from.SecretKeyRef != nil && from.SecretKeyRef.Name == name:
			field = fmt.Sprintf("%s.env[%d].valueFrom.secretKeyRef.name", field, i)
		default:
			continue
		}
		break
	}
	f.Cause = fmt.Sprintf("CreateContainerConfigError: %s wants %s %s, which is not there (%s)", l.title(c.Name), kind, name, field)
	f.Fix = fmt.Sprintf("add the %s %s to namespace %s, or correct %s", kind, name, l.pod.Namespace, field)
	f.Where, f.AtOnce = l.where(field), "it is there"
}

// nonRootField returns where a field of the security context is: the container's or the pod's.
func (l *look) nonRootField(c *v1.Container, field, name string) string {
	has := c.SecurityContext != nil && (name == "runAsUser" && c.SecurityContext.RunAsUser != nil || name == "runAsNonRoot" && c.SecurityContext.RunAsNonRoot != nil)
	if has {
		return field + ".securityContext." + name
	}
	return "spec.securityContext." + name
}

// mountField returns the first mount of a container that is meant.
func mountField(c *v1.Container, field, name string, meant func(*v1.VolumeMount) bool) string {
	for i := range c.VolumeMounts {
		if meant(&c.VolumeMounts[i]) {
			return fmt.Sprintf("%s.volumeMounts[%d].%s", field, i, name)
		}
	}
	return field + ".volumeMounts"
}
