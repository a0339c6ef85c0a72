package manifest

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Validate returns what the API server would refuse when a defaulted pod is
// created, in its words (k8s.io/kubernetes, pkg/apis/core/validation).
func Validate(pod *v1.Pod) field.ErrorList {
	meta, spec := field.NewPath("metadata"), field.NewPath("spec")
	errs := apivalidation.ValidateObjectMeta(&pod.ObjectMeta, true, apivalidation.NameIsDNSSubdomain, meta)
	errs = append(errs, validateSpec(&pod.Spec, spec)...)
	return append(errs, validateReferences(&pod.Spec, spec)...)
}

func validateSpec(s *v1.PodSpec, path *field.Path) field.ErrorList {
	volumes, errs := validateVolumes(s.Volumes, path.Child("volumes"))
	errs = append(errs, validateContainers(s, volumes, path)...)
	errs = append(errs, validatePodResources(s, path)...)
	errs = append(errs, validateRequirements(&v1.ResourceRequirements{Limits: s.Overhead}, path.Child("overhead"))...)
	errs = append(errs, oneOf(s.RestartPolicy, path.Child("restartPolicy"), v1.RestartPolicyAlways, v1.RestartPolicyOnFailure, v1.RestartPolicyNever)...)
	errs = append(errs, validateDNS(s, path)...)
	errs = append(errs, validatePodSecurity(s, path)...)
	if g := s.TerminationGracePeriodSeconds; g != nil {
		errs = append(errs, apivalidation.ValidateNonnegativeField(*g, path.Child("terminationGracePeriodSeconds"))...)
	}
	if d := s.ActiveDeadlineSeconds; d != nil && (*d < 1 || *d > math.MaxInt32) {
		errs = append(errs, field.Invalid(path.Child("activeDeadlineSeconds"), *d, validation.InclusiveRangeError(1, math.MaxInt32)))
	}
	if s.ServiceAccountName != "" {
		errs = append(errs, nameErrors(apivalidation.ValidateServiceAccountName(s.ServiceAccountName, false), s.ServiceAccountName, path.Child("serviceAccountName"))...)
	}
	if s.NodeName != "" {
		errs = append(errs, nameErrors(apivalidation.NameIsDNSSubdomain(s.NodeName, false), s.NodeName, path.Child("nodeName"))...)
	}
	if s.Hostname != "" {
		errs = append(errs, nameErrors(validation.IsDNS1123Label(s.Hostname), s.Hostname, path.Child("hostname"))...)
	}
	if s.Subdomain != "" {
		errs = append(errs, nameErrors(validation.IsDNS1123Label(s.Subdomain), s.Subdomain, path.Child("subdomain"))...)
	}
	if s.HostnameOverride != nil {
		errs = append(errs, validateHostnameOverride(s, path.Child("hostnameOverride"))...)
	}
	errs = append(errs, validatePlacement(s, path)...)
	for i := range s.HostAliases {
		a, at := &s.HostAliases[i], path.Child("hostAliases").Index(i)
		if !isIP(a.IP) {
			errs = append(errs, field.Invalid(at.Child("ip"), a.IP, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"))
		}
		for j, name := range a.Hostnames {
			errs = append(errs, nameErrors(validation.IsDNS1123Subdomain(name), name, at.Child("hostnames").Index(j))...)
		}
	}
	if len(s.PriorityClassName) > 0 {
		errs = append(errs, nameErrors(apivalidation.NameIsDNSSubdomain(s.PriorityClassName, false), s.PriorityClassName, path.Child("priorityClassName"))...)
	}
	if s.RuntimeClassName != nil {
		errs = append(errs, nameErrors(apivalidation.NameIsDNSSubdomain(*s.RuntimeClassName, false), *s.RuntimeClassName, path.Child("runtimeClassName"))...)
	}
	for i, gate := range s.ReadinessGates {
		errs = append(errs, nameErrors(validation.IsQualifiedName(string(gate.ConditionType)), string(gate.ConditionType), path.Child("readinessGates").Index(i).Child("conditionType"))...)
	}
	return errs
}

// maxHostname is the longest host name that the kernel allows.
const maxHostname = 64

func validateHostnameOverride(s *v1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.SetHostnameAsFQDN != nil && *s.SetHostnameAsFQDN {
		errs = append(errs, field.Forbidden(path, "may not be specified when setHostnameAsFQDN is true"))
	}
	if s.HostNetwork {
		errs = append(errs, field.Forbidden(path, "may not be specified when hostNetwork is true"))
	}
	if len(*s.HostnameOverride) > maxHostname {
		errs = append(errs, field.TooLong(path, "", maxHostname))
	}
	return append(errs, nameErrors(validation.IsDNS1123Subdomain(*s.HostnameOverride), *s.HostnameOverride, path)...)
}

// validateReferences refuses what only a pod at the API server can have: a static
// pod may not refer to its objects (kubelet, "static pods may not reference ...").
func validateReferences(s *v1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.ServiceAccountName != "" && s.ServiceAccountName != "default" {
		errs = append(errs, field.Forbidden(path.Child("serviceAccountName"), "a static pod cannot refer to a service account"))
	}
	if len(s.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(path.Child("ephemeralContainers"), "cannot be set on create"))
	}
	if len(s.ResourceClaims) > 0 {
		errs = append(errs, field.Forbidden(path.Child("resourceClaims"), "a static pod cannot refer to resource claims"))
	}
	return errs
}

// nameErrors turns a validation function's messages about a value into errors.
func nameErrors(messages []string, value string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, m := range messages {
		errs = append(errs, field.Invalid(path, value, m))
	}
	return errs
}

// oneOf refuses a value that is missing or not among those allowed.
func oneOf[T ~string](value T, path *field.Path, allowed ...T) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	if slices.Contains(allowed, value) {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, value, allowed)}
}

// Limits of resolv.conf, as in the API.
const (
	maxNameservers   = 3
	maxSearches      = 32
	maxSearchesChars = 2048
)

func validateDNS(s *v1.PodSpec, path *field.Path) field.ErrorList {
	errs := oneOf(s.DNSPolicy, path.Child("dnsPolicy"), v1.DNSClusterFirstWithHostNet, v1.DNSClusterFirst, v1.DNSDefault, v1.DNSNone)
	c, at := s.DNSConfig, path.Child("dnsConfig")
	if s.DNSPolicy == v1.DNSNone {
		if c == nil {
			return append(errs, field.Required(at, fmt.Sprintf("must provide `dnsConfig` when `dnsPolicy` is %s", v1.DNSNone)))
		}
		if len(c.Nameservers) == 0 {
			return append(errs, field.Required(at.Child("nameservers"), fmt.Sprintf("must provide at least one DNS nameserver when `dnsPolicy` is %s", v1.DNSNone)))
		}
	}
	if c == nil {
		return errs
	}
	if len(c.Nameservers) > maxNameservers {
		errs = append(errs, field.Invalid(at.Child("nameservers"), c.Nameservers, fmt.Sprintf("must not have more than %v nameservers", maxNameservers)))
	}
	for i, ip := range c.Nameservers {
		if !isIP(ip) {
			errs = append(errs, field.Invalid(at.Child("nameservers").Index(i), ip, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"))
		}
	}
	if len(c.Searches) > maxSearches {
		errs = append(errs, field.Invalid(at.Child("searches"), c.Searches, fmt.Sprintf("must not have more than %v search paths", maxSearches)))
	}
	if len(strings.Join(c.Searches, " ")) > maxSearchesChars {
		errs = append(errs, field.Invalid(at.Child("searches"), c.Searches, fmt.Sprintf("must not have more than %v characters (including spaces) in the search list", maxSearchesChars)))
	}
	for i, search := range c.Searches {
		if search == "." {
			continue
		}
		name := strings.TrimSuffix(strings.ReplaceAll(search, "_", "-"), ".")
		errs = append(errs, nameErrors(validation.IsDNS1123Subdomain(name), search, at.Child("searches").Index(i))...)
	}
	for i, o := range c.Options {
		if o.Name == "" {
			errs = append(errs, field.Required(at.Child("options").Index(i), "must not be empty"))
		}
	}
	return errs
}

// climbs reports whether a path has an element that leads up.
func climbs(p string) bool { return slices.Contains(strings.Split(p, "/"), "..") }

// unique refuses a second entry with the same key.
func unique(seen sets.Set[string], key string, path *field.Path) field.ErrorList {
	if seen.Has(key) {
		return field.ErrorList{field.Duplicate(path, key)}
	}
	seen.Insert(key)
	return nil
}

// isIP reports whether text is an IP address without a zone: nobody checks a zone's content,
// and the address becomes a line of the pod's files.
func isIP(text string) bool {
	addr, err := netip.ParseAddr(text)
	return err == nil && addr.Zone() == ""
}
