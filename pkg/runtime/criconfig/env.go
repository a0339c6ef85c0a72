package criconfig

import (
	"context"
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods/downward"
)

// environment is a container's variables: by name, and in the order in which the
// runtime gets them.
type environment struct {
	values map[string]string
	order  []string
	size   int // of all names and values, in bytes
}

// set fails when the environment becomes larger than a program can have.
func (e *environment) set(name, value string) error {
	if before, ok := e.values[name]; ok {
		e.size -= len(before)
	} else {
		e.order = append(e.order, name)
		e.size += len(name)
	}
	e.values[name] = value
	if e.size += len(value); e.size > MaxArguments {
		return containerErrorf("%w", ErrTooLong)
	}
	return nil
}

func (e *environment) lookup(name string) (string, bool) {
	v, ok := e.values[name]
	return v, ok
}

func (e *environment) cri() []*cri.KeyValue {
	out := make([]*cri.KeyValue, 0, len(e.order))
	for _, name := range e.order {
		out = append(out, &cri.KeyValue{Key: name, Value: []byte(e.values[name])})
	}
	return out
}

// makeEnv evaluates envFrom and then env, each of which can refer to what came
// before; both override service variables and those of devices, given. It reads each object and file once.
func makeEnv(ctx context.Context, pod *v1.Pod, c *v1.Container, in ContainerInput, given map[string]string) (*environment, error) {
	src := &objectCache{objects: in.Objects, namespace: pod.Namespace,
		configMaps: map[string]*v1.ConfigMap{}, secrets: map[string]*v1.Secret{}}
	files := &envFiles{volumes: in.Volumes, pod: pod}
	own := &environment{values: map[string]string{}}
	for i := range c.EnvFrom {
		if err := addEnvFrom(ctx, own, &c.EnvFrom[i], src); err != nil {
			return nil, err
		}
	}
	lookup := func(name string) (string, bool) {
		if v, ok := own.lookup(name); ok {
			return v, true
		}
		v, ok := in.ServiceEnv[name]
		return v, ok
	}
	for i := range c.Env {
		v := &c.Env[i]
		if msgs := validation.IsRelaxedEnvVarName(v.Name); len(msgs) > 0 {
			return nil, containerErrorf("invalid environment variable name %q: %s", v.Name, strings.Join(msgs, "; "))
		}
		value, set, err := envValue(ctx, pod, c, v, in, src, files, MaxArguments-own.size, lookup)
		if err == nil && set {
			err = own.set(v.Name, value)
		}
		if err != nil {
			return nil, err
		}
	}
	all := &environment{values: map[string]string{}}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if err := all.set(name, given[name]); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(in.ServiceEnv)) {
		if _, ok := own.values[name]; ok {
			continue
		}
		if err := all.set(name, in.ServiceEnv[name]); err != nil {
			return nil, err
		}
	}
	for _, name := range own.order {
		if err := all.set(name, own.values[name]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func addEnvFrom(ctx context.Context, env *environment, from *v1.EnvFromSource, src *objectCache) error {
	add := func(keys []string, value func(string) string) error {
		for _, k := range keys {
			name := from.Prefix + k
			if msgs := validation.IsRelaxedEnvVarName(name); len(msgs) > 0 {
				return containerErrorf("invalid environment variable name %q: %s", name, strings.Join(msgs, "; "))
			}
			if err := env.set(name, value(k)); err != nil {
				return err
			}
		}
		return nil
	}
	switch {
	case from.ConfigMapRef != nil:
		m, err := src.configMap(ctx, from.ConfigMapRef.Name, ptr.Deref(from.ConfigMapRef.Optional, false))
		if m == nil || err != nil {
			return err
		}
		return add(slices.Sorted(maps.Keys(m.Data)), func(k string) string { return m.Data[k] })
	case from.SecretRef != nil:
		s, err := src.secret(ctx, from.SecretRef.Name, ptr.Deref(from.SecretRef.Optional, false))
		if s == nil || err != nil {
			return err
		}
		return add(slices.Sorted(maps.Keys(s.Data)), func(k string) string { return string(s.Data[k]) })
	}
	return nil
}

// envValue returns one variable's value; set is false when an optional source is missing.
func envValue(ctx context.Context, pod *v1.Pod, c *v1.Container, v *v1.EnvVar, in ContainerInput, src *objectCache, files *envFiles, most int, lookup func(string) (string, bool)) (value string, set bool, err error) {
	from := v.ValueFrom
	switch {
	case v.Value != "" || from == nil:
		if value, err = Expand(v.Value, most, lookup); err != nil {
			return "", false, containerErrorf("environment variable %s: %w", v.Name, err)
		}
		return value, true, nil
	case from.FieldRef != nil:
		value, err = downward.Field(pod, from.FieldRef.FieldPath, addresses(pod, in))
	case from.ResourceFieldRef != nil:
		value, err = downward.Resource(pod, c.Name, from.ResourceFieldRef, in.Node.allocatable())
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		m, err := src.configMap(ctx, ref.Name, ptr.Deref(ref.Optional, false))
		if m == nil || err != nil {
			return "", false, err
		}
		if value, set = m.Data[ref.Key]; !set && !ptr.Deref(ref.Optional, false) {
			return "", false, containerErrorf("couldn't find key %v in ConfigMap %v/%v", ref.Key, pod.Namespace, ref.Name)
		}
		return value, set, nil
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		s, err := src.secret(ctx, ref.Name, ptr.Deref(ref.Optional, false))
		if s == nil || err != nil {
			return "", false, err
		}
		text, set := s.Data[ref.Key]
		if !set && !ptr.Deref(ref.Optional, false) {
			return "", false, containerErrorf("couldn't find key %v in Secret %v/%v", ref.Key, pod.Namespace, ref.Name)
		}
		return string(text), set, nil
	case from.FileKeyRef != nil:
		return files.value(ctx, from.FileKeyRef)
	default:
		return "", false, containerErrorf("environment variable %s: its valueFrom is not supported", v.Name)
	}
	if err != nil {
		return "", false, containerErrorf("environment variable %s: %w", v.Name, err)
	}
	return value, true, nil
}

// addresses returns the addresses for the pod's status fields. With host network
// the pod's IPs are the node's; before the sandbox has an address there are none.
func addresses(pod *v1.Pod, in ContainerInput) downward.Addresses {
	at := downward.Addresses{HostIPs: in.Node.Addresses(), PodIPs: in.PodIPs}
	if pod.Spec.HostNetwork && len(at.PodIPs) == 0 {
		at.PodIPs = in.Node.Addresses()
	}
	return at
}

// objectCache asks for each ConfigMap and Secret of one container once.
type objectCache struct {
	objects    Objects
	namespace  string
	configMaps map[string]*v1.ConfigMap
	secrets    map[string]*v1.Secret
}

// configMap returns nil without an error when an optional one is missing.
func (o *objectCache) configMap(ctx context.Context, name string, optional bool) (*v1.ConfigMap, error) {
	if m, ok := o.configMaps[name]; ok {
		return m, nil
	}
	if o.objects == nil {
		if optional {
			return nil, nil
		}
		return nil, containerErrorf("configmap %q: this node has no source of ConfigMaps", name)
	}
	m, err := o.objects.ConfigMap(ctx, o.namespace, name)
	if err != nil {
		if optional && apierrors.IsNotFound(err) {
			return nil, nil
		}
		return nil, containerErrorf("%w", err)
	}
	o.configMaps[name] = m
	return m, nil
}

// secret returns nil without an error when an optional one is missing.
func (o *objectCache) secret(ctx context.Context, name string, optional bool) (*v1.Secret, error) {
	if s, ok := o.secrets[name]; ok {
		return s, nil
	}
	if o.objects == nil {
		if optional {
			return nil, nil
		}
		return nil, containerErrorf("secret %q: this node has no source of Secrets", name)
	}
	s, err := o.objects.Secret(ctx, o.namespace, name)
	if err != nil {
		if optional && apierrors.IsNotFound(err) {
			return nil, nil
		}
		return nil, containerErrorf("%w", err)
	}
	o.secrets[name] = s
	return s, nil
}
