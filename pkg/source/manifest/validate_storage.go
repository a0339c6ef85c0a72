package manifest

import (
	"maps"
	"path"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mini-kubelet/mini-kubelet/pkg/admission/podfields"
)

// validatePersistentVolume returns what the API server would refuse when a
// defaulted PersistentVolume is created (k8s.io/kubernetes,
// pkg/apis/core/validation, ValidatePersistentVolume), and the types of volumes
// that this node does not have.
func validatePersistentVolume(pv *v1.PersistentVolume) field.ErrorList {
	s, at := &pv.Spec, field.NewPath("spec")
	errs := apivalidation.ValidateObjectMeta(&pv.ObjectMeta, false, apivalidation.NameIsDNSSubdomain, field.NewPath("metadata"))
	errs = append(errs, validateAccessModes(s.AccessModes, "", at.Child("accessModes"))...)
	errs = append(errs, validateCapacity(s.Capacity, at.Child("capacity"))...)
	errs = append(errs, oneOf(s.PersistentVolumeReclaimPolicy, at.Child("persistentVolumeReclaimPolicy"),
		v1.PersistentVolumeReclaimDelete, v1.PersistentVolumeReclaimRecycle, v1.PersistentVolumeReclaimRetain)...)
	errs = append(errs, validateVolumeMode(*s.VolumeMode, at.Child("volumeMode"))...)
	errs = append(errs, validateClass(&s.StorageClassName, at.Child("storageClassName"))...)
	if class := s.VolumeAttributesClassName; class != nil {
		if *class == "" {
			errs = append(errs, field.Required(at.Child("volumeAttributesClassName"), "an empty string is disallowed"))
		}
		if s.CSI == nil {
			errs = append(errs, field.Required(at.Child("csi"), "has to be specified when using volumeAttributesClassName"))
		}
	}
	errs = append(errs, validateClass(s.VolumeAttributesClassName, at.Child("volumeAttributesClassName"))...)
	if s.HostPath != nil && path.Clean(s.HostPath.Path) == "/" && s.PersistentVolumeReclaimPolicy == v1.PersistentVolumeReclaimRecycle {
		errs = append(errs, field.Forbidden(at.Child("persistentVolumeReclaimPolicy"), "may not be 'recycle' for a hostPath mount of '/'"))
	}
	errs = append(errs, validateVolumeAffinity(s.NodeAffinity, at.Child("nodeAffinity"))...)
	return append(errs, validatePersistentSource(pv.Name, s, at)...)
}

func validateAccessModes(modes []v1.PersistentVolumeAccessMode, missing string, at *field.Path) field.ErrorList {
	if len(modes) == 0 {
		return field.ErrorList{field.Required(at, missing)}
	}
	var errs field.ErrorList
	for _, m := range modes {
		errs = append(errs, oneOf(m, at, v1.ReadOnlyMany, v1.ReadWriteMany, v1.ReadWriteOnce, v1.ReadWriteOncePod)...)
	}
	other := func(m v1.PersistentVolumeAccessMode) bool { return m != v1.ReadWriteOncePod }
	if slices.Contains(modes, v1.ReadWriteOncePod) && slices.ContainsFunc(modes, other) {
		errs = append(errs, field.Forbidden(at, "may not use ReadWriteOncePod with other access modes"))
	}
	return errs
}

func validateCapacity(capacity v1.ResourceList, at *field.Path) field.ErrorList {
	if len(capacity) == 0 {
		return field.ErrorList{field.Required(at, "")}
	}
	size, ok := capacity[v1.ResourceStorage]
	if !ok || len(capacity) > 1 {
		return field.ErrorList{field.NotSupported(at, slices.Sorted(maps.Keys(capacity)), []v1.ResourceName{v1.ResourceStorage})}
	}
	if size.Sign() <= 0 {
		return field.ErrorList{field.Invalid(at.Key(string(v1.ResourceStorage)), size.String(), "must be greater than zero")}
	}
	return nil
}

func validateVolumeMode(mode v1.PersistentVolumeMode, at *field.Path) field.ErrorList {
	return oneOf(mode, at, v1.PersistentVolumeBlock, v1.PersistentVolumeFilesystem)
}

// validateClass checks the name of a class; it may be missing.
func validateClass(name *string, at *field.Path) field.ErrorList {
	if name == nil || *name == "" {
		return nil
	}
	return nameErrors(apivalidation.NameIsDNSSubdomain(*name, false), *name, at)
}

func validateVolumeAffinity(a *v1.VolumeNodeAffinity, at *field.Path) field.ErrorList {
	switch {
	case a == nil:
		return nil
	case a.Required == nil:
		return field.ErrorList{field.Required(at.Child("required"), "must specify required node constraints")}
	}
	return validateNodeSelector(a.Required, at.Child("required"))
}

func validatePersistentSource(name string, s *v1.PersistentVolumeSpec, at *field.Path) field.ErrorList {
	types := setFields(&s.PersistentVolumeSource)
	if len(types) == 0 {
		return field.ErrorList{field.Required(at, "must specify a volume type")}
	}
	var errs field.ErrorList
	for _, other := range types[1:] {
		errs = append(errs, field.Forbidden(at.Child(other), "may not specify more than 1 volume type"))
	}
	path := at.Child(types[0])
	switch {
	case s.HostPath != nil:
		return append(errs, validateHostPath(s.HostPath, path)...)
	case s.Local != nil:
		errs = append(errs, validateLocal(s.Local, path)...)
		if s.NodeAffinity == nil {
			errs = append(errs, field.Required(at.Child("nodeAffinity"), "Local volume requires node affinity"))
		}
		return errs
	case s.NFS != nil:
		return append(errs, validateNFS(s.NFS, path)...)
	case s.ISCSI != nil:
		return append(errs, validatePersistentISCSI(name, s.ISCSI, path)...)
	case s.CSI != nil:
		return append(errs, validatePersistentCSI(s.CSI, path)...)
	}
	return append(errs, field.Forbidden(path, podfields.RefusedVolume(types[0])))
}

func validateLocal(l *v1.LocalVolumeSource, at *field.Path) field.ErrorList {
	switch {
	case l.Path == "":
		return field.ErrorList{field.Required(at.Child("path"), "")}
	case climbs(l.Path):
		return field.ErrorList{field.Invalid(at.Child("path"), l.Path, "must not contain '..'")}
	}
	return nil
}

// maxInitiatorInterface is how long the name of an iSCSI interface that is made for a
// volume may be.
const maxInitiatorInterface = 64

func validatePersistentISCSI(name string, i *v1.ISCSIPersistentVolumeSource, at *field.Path) field.ErrorList {
	inline := v1.ISCSIVolumeSource{
		TargetPortal: i.TargetPortal, IQN: i.IQN, Lun: i.Lun, InitiatorName: i.InitiatorName,
		DiscoveryCHAPAuth: i.DiscoveryCHAPAuth, SessionCHAPAuth: i.SessionCHAPAuth,
	}
	var errs field.ErrorList
	if i.SecretRef != nil {
		inline.SecretRef = &v1.LocalObjectReference{Name: i.SecretRef.Name}
		errs = required(i.SecretRef.Name, at.Child("secretRef", "name"))
	}
	if i.InitiatorName != nil && len(name+":"+i.TargetPortal) > maxInitiatorInterface {
		errs = append(errs, field.Invalid(at.Child("targetPortal"), i.TargetPortal, "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified."))
	}
	return append(validateISCSI(&inline, at), errs...)
}

func validatePersistentCSI(c *v1.CSIPersistentVolumeSource, at *field.Path) field.ErrorList {
	errs := validateDriver(c.Driver, at.Child("driver"))
	errs = append(errs, required(c.VolumeHandle, at.Child("volumeHandle"))...)
	for _, ref := range []struct {
		name string
		to   *v1.SecretReference
	}{
		{"controllerPublishSecretRef", c.ControllerPublishSecretRef}, {"nodeStageSecretRef", c.NodeStageSecretRef},
		{"nodePublishSecretRef", c.NodePublishSecretRef}, {"controllerExpandSecretRef", c.ControllerExpandSecretRef},
		{"nodeExpandSecretRef", c.NodeExpandSecretRef},
	} {
		if ref.to != nil {
			errs = append(errs, required(ref.to.Name, at.Child(ref.name, "name"))...)
			errs = append(errs, required(ref.to.Namespace, at.Child(ref.name, "namespace"))...)
		}
	}
	return errs
}

// validateClaim is validatePersistentVolume for PersistentVolumeClaims.
func validateClaim(c *v1.PersistentVolumeClaim) field.ErrorList {
	errs := apivalidation.ValidateObjectMeta(&c.ObjectMeta, true, apivalidation.NameIsDNSSubdomain, field.NewPath("metadata"))
	return append(errs, validateClaimSpec(&c.Spec, field.NewPath("spec"))...)
}

func validateClaimSpec(s *v1.PersistentVolumeClaimSpec, at *field.Path) field.ErrorList {
	errs := validateAccessModes(s.AccessModes, "at least 1 access mode is required", at.Child("accessModes"))
	if s.Selector != nil {
		errs = append(errs, unversioned.ValidateLabelSelector(s.Selector, unversioned.LabelSelectorValidationOptions{}, at.Child("selector"))...)
	}
	request := at.Child("resources", "requests").Key(string(v1.ResourceStorage))
	if size, ok := s.Resources.Requests[v1.ResourceStorage]; !ok {
		errs = append(errs, field.Required(request, ""))
	} else if size.Sign() <= 0 {
		errs = append(errs, field.Invalid(request, size.String(), "must be greater than zero"))
	}
	errs = append(errs, validateVolumeMode(*s.VolumeMode, at.Child("volumeMode"))...)
	errs = append(errs, validateClass(s.StorageClassName, at.Child("storageClassName"))...)
	errs = append(errs, validateClass(s.VolumeAttributesClassName, at.Child("volumeAttributesClassName"))...)
	const noSources = "a standalone node has nobody who fills a volume from another source"
	if s.DataSource != nil {
		errs = append(errs, field.Forbidden(at.Child("dataSource"), noSources))
	}
	if s.DataSourceRef != nil {
		errs = append(errs, field.Forbidden(at.Child("dataSourceRef"), noSources))
	}
	return errs
}

// again says how to change an object that may not be changed.
const again = "; take the document away and give it anew"

// validateVolumeChange returns what the API server would refuse when a
// PersistentVolume is updated: that it becomes another volume.
func validateVolumeChange(old, now *v1.PersistentVolume) field.ErrorList {
	var errs field.ErrorList
	forbid := func(name, what string, same bool) {
		if !same {
			errs = append(errs, field.Forbidden(field.NewPath("spec", name), what+again))
		}
	}
	source := setFields(&now.Spec.PersistentVolumeSource)[0]
	forbid(source, "spec.persistentvolumesource is immutable after creation", equality.Semantic.DeepEqual(old.Spec.PersistentVolumeSource, now.Spec.PersistentVolumeSource))
	forbid("volumeMode", "field is immutable", equality.Semantic.DeepEqual(old.Spec.VolumeMode, now.Spec.VolumeMode))
	forbid("nodeAffinity", "field is immutable", old.Spec.NodeAffinity == nil || equality.Semantic.DeepEqual(old.Spec.NodeAffinity, now.Spec.NodeAffinity))
	return errs
}

// validateClaimChange is validateVolumeChange for claims. What may change in a bound
// claim, a larger request, needs somebody who enlarges the volume.
func validateClaimChange(old, now *v1.PersistentVolumeClaim) field.ErrorList {
	before := old.DeepCopy()
	if before.Spec.VolumeName == "" {
		before.Spec.VolumeName = now.Spec.VolumeName // may be set once
	}
	if equality.Semantic.DeepEqual(before.Spec, now.Spec) {
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath("spec"), "spec is immutable after creation"+again)}
}
