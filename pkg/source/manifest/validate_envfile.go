package manifest

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateFileKey(r *v1.FileKeySelector, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if r.Key == "" {
		errs = append(errs, field.Required(path.Child("key"), ""))
	} else {
		errs = append(errs, nameErrors(validation.IsRelaxedEnvVarName(r.Key), r.Key, path.Child("key"))...)
	}
	if r.VolumeName == "" {
		errs = append(errs, field.Required(path.Child("volumeName"), ""))
	} else {
		errs = append(errs, nameErrors(validation.IsDNS1123Label(r.VolumeName), r.VolumeName, path.Child("volumeName"))...)
	}
	switch {
	case r.Path == "":
		errs = append(errs, field.Required(path.Child("path"), ""))
	case climbs(r.Path):
		errs = append(errs, field.Invalid(path.Child("path"), r.Path, "must not contain '..'"))
	}
	return errs
}

// validateFileKeyVolumes requires that the files of an environment are in emptyDirs
// of the pod, mounted or not.
func (s *containerSet) validateFileKeyVolumes(c *v1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range c.Env {
		from := c.Env[i].ValueFrom
		if from == nil || from.FileKeyRef == nil {
			continue
		}
		name, at := from.FileKeyRef.VolumeName, path.Index(i).Child("valueFrom", "fileKeyRef", "volumeName")
		switch v := s.volumes[name]; {
		case v == nil:
			errs = append(errs, field.NotFound(at, name))
		case v.EmptyDir == nil:
			errs = append(errs, field.Invalid(at, name, "referenced volume must be of type emptyDir"))
		}
	}
	return errs
}
