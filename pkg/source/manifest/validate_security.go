package manifest

import (
	"path"
	"regexp"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validatePodSecurity(s *v1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	at := path.Child("securityContext")
	if s.ShareProcessNamespace != nil && *s.ShareProcessNamespace && s.HostPID {
		errs = append(errs, field.Invalid(path.Child("shareProcessNamespace"), true, "ShareProcessNamespace and HostPID cannot both be enabled"))
	}
	c := s.SecurityContext
	if c == nil {
		return errs
	}
	errs = append(errs, userErrors(c.RunAsUser, at.Child("runAsUser"))...)
	errs = append(errs, groupErrors(c.RunAsGroup, at.Child("runAsGroup"))...)
	errs = append(errs, groupErrors(c.FSGroup, at.Child("fsGroup"))...)
	for i := range c.SupplementalGroups {
		errs = append(errs, groupErrors(&c.SupplementalGroups[i], at.Child("supplementalGroups").Index(i))...)
	}
	if p := c.SupplementalGroupsPolicy; p != nil {
		errs = append(errs, oneOf(*p, at.Child("supplementalGroupsPolicy"), v1.SupplementalGroupsPolicyMerge, v1.SupplementalGroupsPolicyStrict)...)
	}
	if p := c.FSGroupChangePolicy; p != nil {
		errs = append(errs, oneOf(*p, at.Child("fsGroupChangePolicy"), v1.FSGroupChangeOnRootMismatch, v1.FSGroupChangeAlways)...)
	}
	errs = append(errs, validateSeccomp(c.SeccompProfile, at.Child("seccompProfile"))...)
	errs = append(errs, validateAppArmor(c.AppArmorProfile, at.Child("appArmorProfile"))...)
	return append(errs, validateSysctls(s, at.Child("sysctls"))...)
}

// sysctlForm is the form of a sysctl's name, with dots or slashes.
var sysctlForm = regexp.MustCompile(`^[a-z0-9]([-_a-z0-9]*[a-z0-9])?([\./][a-z0-9]([-_a-z0-9]*[a-z0-9])?)*$`)

func validateSysctls(s *v1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := sets.New[string]()
	for i, sysctl := range s.SecurityContext.Sysctls {
		at := path.Index(i).Child("name")
		name := strings.ReplaceAll(sysctl.Name, "/", ".")
		switch {
		case sysctl.Name == "":
			errs = append(errs, field.Required(at, ""))
			continue
		case len(sysctl.Name) > 253 || !sysctlForm.MatchString(sysctl.Name):
			errs = append(errs, field.Invalid(at, sysctl.Name, "must have at most 253 characters and match regex "+sysctlForm.String()))
		case s.HostNetwork && strings.HasPrefix(name, "net."):
			errs = append(errs, field.Invalid(at, sysctl.Name, "may not be specified when 'hostNetwork' is true"))
		case s.HostIPC && (strings.HasPrefix(name, "kernel.shm") || strings.HasPrefix(name, "kernel.msg") || name == "kernel.sem" || strings.HasPrefix(name, "fs.mqueue.")):
			errs = append(errs, field.Invalid(at, sysctl.Name, "may not be specified when 'hostIPC' is true"))
		}
		errs = append(errs, unique(names, name, at)...)
	}
	return errs
}

func validateContainerSecurity(c *v1.SecurityContext, path *field.Path) field.ErrorList {
	if c == nil {
		return nil
	}
	errs := userErrors(c.RunAsUser, path.Child("runAsUser"))
	errs = append(errs, groupErrors(c.RunAsGroup, path.Child("runAsGroup"))...)
	if p := c.ProcMount; p != nil {
		errs = append(errs, oneOf(*p, path.Child("procMount"), v1.DefaultProcMount, v1.UnmaskedProcMount)...)
	}
	errs = append(errs, validateSeccomp(c.SeccompProfile, path.Child("seccompProfile"))...)
	errs = append(errs, validateAppArmor(c.AppArmorProfile, path.Child("appArmorProfile"))...)
	if c.AllowPrivilegeEscalation == nil || *c.AllowPrivilegeEscalation {
		return errs
	}
	if c.Privileged != nil && *c.Privileged {
		errs = append(errs, field.Invalid(path, c, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"))
	}
	if c.Capabilities != nil && slices.Contains(c.Capabilities.Add, "CAP_SYS_ADMIN") {
		errs = append(errs, field.Invalid(path, c, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"))
	}
	return errs
}

func userErrors(id *int64, path *field.Path) field.ErrorList {
	if id == nil {
		return nil
	}
	return idErrors(validation.IsValidUserID(*id), *id, path)
}

func groupErrors(id *int64, path *field.Path) field.ErrorList {
	if id == nil {
		return nil
	}
	return idErrors(validation.IsValidGroupID(*id), *id, path)
}

func idErrors(messages []string, id int64, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, m := range messages {
		errs = append(errs, field.Invalid(path, id, m))
	}
	return errs
}

func validateSeccomp(p *v1.SeccompProfile, at *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	local := p.Type == v1.SeccompProfileTypeLocalhost
	switch {
	case local && p.LocalhostProfile == nil:
		return field.ErrorList{field.Required(at.Child("localhostProfile"), "must be set when seccomp type is Localhost")}
	case local && (path.IsAbs(*p.LocalhostProfile) || climbs(*p.LocalhostProfile)):
		return field.ErrorList{field.Invalid(at.Child("localhostProfile"), *p.LocalhostProfile, "must be a relative path without '..'")}
	case !local && p.LocalhostProfile != nil:
		return field.ErrorList{field.Invalid(at.Child("localhostProfile"), *p.LocalhostProfile, "can only be set when seccomp type is Localhost")}
	}
	return oneOf(p.Type, at.Child("type"), v1.SeccompProfileTypeLocalhost, v1.SeccompProfileTypeRuntimeDefault, v1.SeccompProfileTypeUnconfined)
}

func validateAppArmor(p *v1.AppArmorProfile, at *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	local := p.Type == v1.AppArmorProfileTypeLocalhost
	switch {
	case local && (p.LocalhostProfile == nil || strings.TrimSpace(*p.LocalhostProfile) == ""):
		return field.ErrorList{field.Required(at.Child("localhostProfile"), "must be set when AppArmor type is Localhost")}
	case !local && p.LocalhostProfile != nil:
		return field.ErrorList{field.Invalid(at.Child("localhostProfile"), *p.LocalhostProfile, "can only be set when AppArmor type is Localhost")}
	}
	return oneOf(p.Type, at.Child("type"), v1.AppArmorProfileTypeLocalhost, v1.AppArmorProfileTypeRuntimeDefault, v1.AppArmorProfileTypeUnconfined)
}
