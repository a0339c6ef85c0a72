package manifest

import (
	"encoding/json"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// validateConfigMap returns what the API server would refuse when a ConfigMap is
// created (k8s.io/kubernetes, pkg/apis/core/validation, ValidateConfigMap).
func validateConfigMap(m *v1.ConfigMap) field.ErrorList {
	data, binary := field.NewPath("data"), field.NewPath("binaryData")
	errs := apivalidation.ValidateObjectMeta(&m.ObjectMeta, true, apivalidation.NameIsDNSSubdomain, field.NewPath("metadata"))
	size := 0
	for _, k := range slices.Sorted(maps.Keys(m.Data)) {
		errs = append(errs, dataKeyErrors(k, data)...)
		if _, twice := m.BinaryData[k]; twice {
			errs = append(errs, field.Invalid(data.Key(k), k, "duplicate of key present in binaryData"))
		}
		size += len(m.Data[k])
	}
	for _, k := range slices.Sorted(maps.Keys(m.BinaryData)) {
		errs = append(errs, dataKeyErrors(k, binary)...)
		size += len(m.BinaryData[k])
	}
	if size > v1.MaxSecretSize {
		errs = append(errs, field.TooLong(data, "", v1.MaxSecretSize))
	}
	return errs
}

// validateSecret is validateConfigMap for Secrets. No error shows a value.
func validateSecret(s *v1.Secret) field.ErrorList {
	meta, data := field.NewPath("metadata"), field.NewPath("data")
	errs := apivalidation.ValidateObjectMeta(&s.ObjectMeta, true, apivalidation.NameIsDNSSubdomain, meta)
	size := 0
	for _, k := range slices.Sorted(maps.Keys(s.Data)) {
		errs = append(errs, dataKeyErrors(k, data)...)
		size += len(s.Data[k])
	}
	if size > v1.MaxSecretSize {
		errs = append(errs, field.TooLong(data, "", v1.MaxSecretSize))
	}
	has := func(key string) bool { _, ok := s.Data[key]; return ok }
	need := func(keys ...string) {
		for _, k := range keys {
			if !has(k) {
				errs = append(errs, field.Required(data.Key(k), ""))
			}
		}
	}
	needJSON := func(key string) {
		need(key)
		if has(key) && json.Unmarshal(s.Data[key], &map[string]any{}) != nil {
			errs = append(errs, field.Invalid(data.Key(key), "<secret contents redacted>", "must be a JSON object"))
		}
	}
	switch s.Type {
	case v1.SecretTypeServiceAccountToken:
		if s.Annotations[v1.ServiceAccountNameKey] == "" {
			errs = append(errs, field.Required(meta.Child("annotations").Key(v1.ServiceAccountNameKey), ""))
		}
	case v1.SecretTypeDockercfg:
		needJSON(v1.DockerConfigKey)
	case v1.SecretTypeDockerConfigJson:
		needJSON(v1.DockerConfigJsonKey)
	case v1.SecretTypeBasicAuth:
		if !has(v1.BasicAuthUsernameKey) && !has(v1.BasicAuthPasswordKey) {
			need(v1.BasicAuthUsernameKey, v1.BasicAuthPasswordKey)
		}
	case v1.SecretTypeSSHAuth:
		if len(s.Data[v1.SSHAuthPrivateKey]) == 0 {
			errs = append(errs, field.Required(data.Key(v1.SSHAuthPrivateKey), ""))
		}
	case v1.SecretTypeTLS:
		need(v1.TLSCertKey, v1.TLSPrivateKeyKey)
	}
	return errs
}

func dataKeyErrors(key string, path *field.Path) field.ErrorList {
	return nameErrors(validation.IsConfigMapKey(key), key, path.Key(key))
}

// validateChange returns what the API server would refuse when an object is
// updated.
func validateChange(old, now metav1.Object) field.ErrorList {
	const message = "field is immutable when `immutable` is set"
	var errs field.ErrorList
	forbid := func(name string, changed bool) {
		if changed {
			errs = append(errs, field.Forbidden(field.NewPath(name), message))
		}
	}
	switch now := now.(type) {
	case *v1.ConfigMap:
		if old, ok := old.(*v1.ConfigMap); ok && ptr.Deref(old.Immutable, false) {
			forbid("immutable", !ptr.Deref(now.Immutable, false))
			forbid("data", !maps.Equal(old.Data, now.Data))
			forbid("binaryData", !equalBytes(old.BinaryData, now.BinaryData))
		}
	case *v1.Secret:
		old, ok := old.(*v1.Secret)
		if !ok {
			break
		}
		errs = append(errs, apivalidation.ValidateImmutableField(now.Type, old.Type, field.NewPath("type"))...)
		if ptr.Deref(old.Immutable, false) {
			forbid("immutable", !ptr.Deref(now.Immutable, false))
			forbid("data", !equalBytes(old.Data, now.Data))
		}
	case *v1.PersistentVolume:
		if old, ok := old.(*v1.PersistentVolume); ok {
			errs = append(errs, validateVolumeChange(old, now)...)
		}
	case *v1.PersistentVolumeClaim:
		if old, ok := old.(*v1.PersistentVolumeClaim); ok {
			errs = append(errs, validateClaimChange(old, now)...)
		}
	}
	return errs
}
