package manifest

import (
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
)

// validateVolumes returns the volumes by name, including invalid ones, so that a
// mount of one is not called wrong as well.
func validateVolumes(all []v1.Volume, path *field.Path) (map[string]*v1.Volume, field.ErrorList) {
	var errs field.ErrorList
	byName := map[string]*v1.Volume{}
	for i := range all {
		v, at := &all[i], path.Index(i)
		switch {
		case v.Name == "":
			errs = append(errs, field.Required(at.Child("name"), ""))
		case byName[v.Name] != nil:
			errs = append(errs, field.Duplicate(at.Child("name"), v.Name))
		default:
			errs = append(errs, nameErrors(validation.IsDNS1123Label(v.Name), v.Name, at.Child("name"))...)
		}
		byName[v.Name] = v
		errs = append(errs, validateVolumeSource(&v.VolumeSource, at)...)
	}
	return byName, errs
}

func validateVolumeSource(v *v1.VolumeSource, path *field.Path) field.ErrorList {
	kinds := setFields(v)
	if len(kinds) == 0 {
		return field.ErrorList{field.Required(path, "must specify a volume type")}
	}
	var errs field.ErrorList
	for _, kind := range kinds[1:] {
		errs = append(errs, field.Forbidden(path.Child(kind), "may not specify more than 1 volume type"))
	}
	switch {
	case v.HostPath != nil:
		errs = append(errs, validateHostPath(v.HostPath, path.Child("hostPath"))...)
	case v.EmptyDir != nil:
		if q := v.EmptyDir.SizeLimit; q != nil && q.Sign() < 0 {
			errs = append(errs, field.Forbidden(path.Child("emptyDir", "sizeLimit"), "SizeLimit field must be a valid resource quantity"))
		}
	case v.ConfigMap != nil:
		errs = append(errs, required(v.ConfigMap.Name, path.Child("configMap", "name"))...)
		errs = append(errs, validateItems(v.ConfigMap.Items, v.ConfigMap.DefaultMode, path.Child("configMap"))...)
	case v.Secret != nil:
		errs = append(errs, required(v.Secret.SecretName, path.Child("secret", "secretName"))...)
		errs = append(errs, validateItems(v.Secret.Items, v.Secret.DefaultMode, path.Child("secret"))...)
	case v.DownwardAPI != nil:
		errs = append(errs, validateMode(v.DownwardAPI.DefaultMode, path.Child("downwardAPI", "defaultMode"))...)
		errs = append(errs, validateDownward(v.DownwardAPI.Items, path.Child("downwardAPI", "items"))...)
	case v.Projected != nil:
		errs = append(errs, validateProjected(v.Projected, path.Child("projected"))...)
	case v.PersistentVolumeClaim != nil:
		errs = append(errs, required(v.PersistentVolumeClaim.ClaimName, path.Child("persistentVolumeClaim", "claimName"))...)
	case v.NFS != nil:
		errs = append(errs, validateNFS(v.NFS, path.Child("nfs"))...)
	case v.ISCSI != nil:
		errs = append(errs, validateISCSI(v.ISCSI, path.Child("iscsi"))...)
	case v.CSI != nil:
		errs = append(errs, validateCSI(v.CSI, path.Child("csi"))...)
	case v.Ephemeral != nil:
		at := path.Child("ephemeral", "volumeClaimTemplate")
		if t := v.Ephemeral.VolumeClaimTemplate; t == nil {
			errs = append(errs, field.Required(at, ""))
		} else {
			errs = append(errs, validateClaimSpec(&t.Spec, at.Child("spec"))...)
		}
	case v.Image != nil:
		errs = append(errs, required(v.Image.Reference, path.Child("image", "reference"))...)
		errs = append(errs, oneOf(v.Image.PullPolicy, path.Child("image", "pullPolicy"), v1.PullAlways, v1.PullIfNotPresent, v1.PullNever)...)
	}
	return errs
}

// setFields returns the JSON names of the fields that are set in a struct of
// pointers.
func setFields(of any) []string {
	v := reflect.ValueOf(of).Elem()
	var names []string
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.Pointer && !f.IsNil() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			names = append(names, name)
		}
	}
	return names
}

func required(value string, path *field.Path) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return nil
}

var hostPathTypes = []v1.HostPathType{
	v1.HostPathUnset, v1.HostPathBlockDev, v1.HostPathCharDev, v1.HostPathDirectory,
	v1.HostPathDirectoryOrCreate, v1.HostPathFile, v1.HostPathFileOrCreate, v1.HostPathSocket,
}

func validateHostPath(h *v1.HostPathVolumeSource, at *field.Path) field.ErrorList {
	if h.Path == "" {
		return field.ErrorList{field.Required(at.Child("path"), "")}
	}
	var errs field.ErrorList
	if climbs(h.Path) {
		errs = append(errs, field.Invalid(at.Child("path"), h.Path, "must not contain '..'"))
	}
	if h.Type != nil && !slices.Contains(hostPathTypes, *h.Type) {
		errs = append(errs, field.NotSupported(at.Child("type"), *h.Type, hostPathTypes))
	}
	return errs
}

func validateMode(mode *int32, path *field.Path) field.ErrorList {
	if mode != nil && (*mode > 0o777 || *mode < 0) {
		return field.ErrorList{field.Invalid(path, *mode, "must be a number between 0 and 0777 (octal), both inclusive")}
	}
	return nil
}

func validateItems(items []v1.KeyToPath, mode *int32, path *field.Path) field.ErrorList {
	errs := validateMode(mode, path.Child("defaultMode"))
	for i := range items {
		at := path.Child("items").Index(i)
		errs = append(errs, required(items[i].Key, at.Child("key"))...)
		errs = append(errs, validateLocalPath(items[i].Path, at.Child("path"))...)
		errs = append(errs, validateMode(items[i].Mode, at.Child("mode"))...)
	}
	return errs
}

// validateLocalPath is for files that the node writes into a volume: they must not
// have its own names, which begin with "..", and not be outside.
func validateLocalPath(p string, at *field.Path) field.ErrorList {
	switch {
	case p == "":
		return field.ErrorList{field.Required(at, "")}
	case len(path.Clean(p)) > bounds.MaxPath:
		return field.ErrorList{field.TooLong(at, "", bounds.MaxPath)}
	case path.IsAbs(p):
		return field.ErrorList{field.Invalid(at, p, "must be a relative path")}
	case climbs(p):
		return field.ErrorList{field.Invalid(at, p, "must not contain '..'")}
	case strings.HasPrefix(p, ".."):
		return field.ErrorList{field.Invalid(at, p, "must not start with '..'")}
	}
	return nil
}

// volumeFields are the fields of the pod that a downward API file may have; it may
// also have labels and annotations as a whole.
var volumeFields = []string{"metadata.name", "metadata.namespace", "metadata.labels", "metadata.annotations", "metadata.uid"}

func validateDownward(items []v1.DownwardAPIVolumeFile, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range items {
		f, at := &items[i], path.Index(i)
		errs = append(errs, validateLocalPath(f.Path, at.Child("path"))...)
		errs = append(errs, validateMode(f.Mode, at.Child("mode"))...)
		switch {
		case f.FieldRef != nil && f.ResourceFieldRef != nil:
			errs = append(errs, field.Invalid(at, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously"))
		case f.FieldRef != nil:
			errs = append(errs, validateFieldRef(f.FieldRef, volumeFields, at.Child("fieldRef"))...)
		case f.ResourceFieldRef != nil:
			errs = append(errs, required(f.ResourceFieldRef.ContainerName, at.Child("resourceFieldRef", "containerName"))...)
			errs = append(errs, validateResourceField(f.ResourceFieldRef, at.Child("resourceFieldRef"))...)
		default:
			errs = append(errs, field.Required(at, "one of fieldRef and resourceFieldRef is required"))
		}
	}
	return errs
}

func validateProjected(p *v1.ProjectedVolumeSource, path *field.Path) field.ErrorList {
	errs := validateMode(p.DefaultMode, path.Child("defaultMode"))
	paths := sets.New[string]()
	for i := range p.Sources {
		s, at := &p.Sources[i], path.Child("sources").Index(i)
		for _, file := range projectedPaths(s) {
			if file != "" && paths.Has(file) {
				errs = append(errs, field.Invalid(path, file, "conflicting duplicate paths"))
			}
			paths.Insert(file)
		}
		switch {
		case len(setFields(s)) > 1:
			errs = append(errs, field.Forbidden(at, "may not specify more than 1 volume type per source"))
		case s.ConfigMap != nil:
			errs = append(errs, required(s.ConfigMap.Name, at.Child("configMap", "name"))...)
			errs = append(errs, validateItems(s.ConfigMap.Items, nil, at.Child("configMap"))...)
		case s.Secret != nil:
			errs = append(errs, required(s.Secret.Name, at.Child("secret", "name"))...)
			errs = append(errs, validateItems(s.Secret.Items, nil, at.Child("secret"))...)
		case s.DownwardAPI != nil:
			errs = append(errs, validateDownward(s.DownwardAPI.Items, at.Child("downwardAPI", "items"))...)
		case s.ServiceAccountToken != nil:
			errs = append(errs, validateLocalPath(s.ServiceAccountToken.Path, at.Child("serviceAccountToken", "path"))...)
			errs = append(errs, validateExpiry(s.ServiceAccountToken.ExpirationSeconds, at.Child("serviceAccountToken", "expirationSeconds"))...)
		case s.ClusterTrustBundle != nil:
			errs = append(errs, validateTrustBundle(s.ClusterTrustBundle, at.Child("clusterTrustBundle"))...)
		}
	}
	return errs
}

// projectedPaths returns the files that a source names; a token may replace another's
// file.
func projectedPaths(s *v1.VolumeProjection) []string {
	var paths []string
	keys := func(items []v1.KeyToPath) {
		for i := range items {
			paths = append(paths, items[i].Path)
		}
	}
	if s.Secret != nil {
		keys(s.Secret.Items)
	}
	if s.ConfigMap != nil {
		keys(s.ConfigMap.Items)
	}
	if s.DownwardAPI != nil {
		for i := range s.DownwardAPI.Items {
			paths = append(paths, s.DownwardAPI.Items[i].Path)
		}
	}
	if s.ClusterTrustBundle != nil {
		paths = append(paths, s.ClusterTrustBundle.Path)
	}
	return paths
}

func validateNFS(n *v1.NFSVolumeSource, at *field.Path) field.ErrorList {
	errs := required(n.Server, at.Child("server"))
	errs = append(errs, required(n.Path, at.Child("path"))...)
	if !path.IsAbs(n.Path) {
		errs = append(errs, field.Invalid(at.Child("path"), n.Path, "must be an absolute path"))
	}
	return errs
}

// iscsiName is the form of a target's or initiator's name, by the naming authority that
// it begins with.
var iscsiName = map[string]*regexp.Regexp{
	"iqn": regexp.MustCompile(`^iqn\.\d{4}-\d{2}\.([[:alnum:]-.]+)(:[^,;*&$|\s]+)$`),
	"eui": regexp.MustCompile(`^eui.[[:alnum:]]{16}$`),
	"naa": regexp.MustCompile(`^naa.[[:alnum:]]{32}$`),
}

func validateISCSI(s *v1.ISCSIVolumeSource, at *field.Path) field.ErrorList {
	errs := required(s.TargetPortal, at.Child("targetPortal"))
	if s.IQN == "" {
		errs = append(errs, field.Required(at.Child("iqn"), ""))
	} else {
		errs = append(errs, validateISCSIName(s.IQN, at.Child("iqn"))...)
	}
	if s.Lun < 0 || s.Lun > 255 {
		errs = append(errs, field.Invalid(at.Child("lun"), s.Lun, validation.InclusiveRangeError(0, 255)))
	}
	if (s.DiscoveryCHAPAuth || s.SessionCHAPAuth) && s.SecretRef == nil {
		errs = append(errs, field.Required(at.Child("secretRef"), ""))
	}
	if s.InitiatorName != nil {
		errs = append(errs, validateISCSIName(*s.InitiatorName, at.Child("initiatorname"))...)
	}
	return errs
}

func validateISCSIName(name string, at *field.Path) field.ErrorList {
	form := iscsiName[name[:min(3, len(name))]]
	switch {
	case form == nil:
		return field.ErrorList{field.Invalid(at, name, "must be valid format starting with iqn, eui, or naa")}
	case !form.MatchString(name):
		return field.ErrorList{field.Invalid(at, name, "must be valid format")}
	}
	return nil
}

// maxDriverName is how long the name of a CSI driver may be, in bytes.
const maxDriverName = 63

func validateDriver(name string, at *field.Path) field.ErrorList {
	switch {
	case name == "":
		return field.ErrorList{field.Required(at, "")}
	case len(name) > maxDriverName:
		return field.ErrorList{field.TooLong(at, "", maxDriverName)}
	}
	return nameErrors(validation.IsDNS1123Subdomain(strings.ToLower(name)), name, at)
}

func validateCSI(c *v1.CSIVolumeSource, at *field.Path) field.ErrorList {
	errs := validateDriver(c.Driver, at.Child("driver"))
	if c.NodePublishSecretRef != nil {
		errs = append(errs, objectName(c.NodePublishSecretRef.Name, at.Child("nodePublishSecretRef", "name"))...)
	}
	return errs
}

func validateExpiry(seconds *int64, at *field.Path) field.ErrorList {
	switch {
	case seconds == nil:
	case *seconds < 10*60:
		return field.ErrorList{field.Invalid(at, *seconds, "may not specify a duration less than 10 minutes")}
	case *seconds > 1<<32:
		return field.ErrorList{field.Invalid(at, *seconds, "may not specify a duration larger than 2^32 seconds")}
	}
	return nil
}
