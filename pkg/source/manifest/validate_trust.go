package manifest

import (
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateTrustBundle(b *v1.ClusterTrustBundleProjection, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch {
	case b.Name != nil && b.SignerName != nil:
		errs = append(errs, field.Invalid(path, b, "only one of name and signerName may be used"))
	case b.Name != nil:
		name, at := *b.Name, path.Child("name")
		if name == "" {
			errs = append(errs, field.Required(at, "must be a valid object name"))
		}
		// The part before the last ':' is the bundle's signer.
		for _, m := range apivalidation.NameIsDNSSubdomain(name[strings.LastIndex(name, ":")+1:], false) {
			errs = append(errs, field.Invalid(at, name, "not a valid clustertrustbundlename: "+m))
		}
		if b.LabelSelector != nil {
			errs = append(errs, field.Invalid(path.Child("labelSelector"), b.LabelSelector, "labelSelector must be unset if name is specified"))
		}
	case b.SignerName != nil:
		at := path.Child("signerName")
		if *b.SignerName == "" {
			errs = append(errs, field.Required(at, "must be a valid signer name"))
		}
		errs = append(errs, validateSignerName(*b.SignerName, at)...)
		errs = append(errs, unversioned.ValidateLabelSelector(b.LabelSelector, unversioned.LabelSelectorValidationOptions{}, path.Child("labelSelector"))...)
	default:
		errs = append(errs, field.Required(path, "either name or signerName must be specified"))
	}
	return append(errs, validateLocalPath(b.Path, path.Child("path"))...)
}

// validateSignerName requires "domain/name", as in a CertificateSigningRequest.
func validateSignerName(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	domain, signer, ok := strings.Cut(name, "/")
	if !ok || strings.Contains(signer, "/") {
		return field.ErrorList{field.Invalid(path, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'")}
	}
	var errs field.ErrorList
	// One error is enough for several wrong labels.
	each := func(part string, check func(string) []string) {
		for label := range strings.SplitSeq(part, ".") {
			if wrong := check(label); len(wrong) > 0 {
				for _, m := range wrong {
					errs = append(errs, field.Invalid(path, part, fmt.Sprintf("validating label %q: %s", label, m)))
				}
				return
			}
		}
	}
	const longest = validation.DNS1123SubdomainMaxLength
	if len(domain) > longest {
		errs = append(errs, field.TooLong(path, "", longest))
	}
	each(domain, validation.IsDNS1123Label)
	if !strings.Contains(domain, ".") {
		errs = append(errs, field.Invalid(path, domain, "should be a domain with at least two segments separated by dots"))
	}
	each(signer, validation.IsDNS1123Subdomain)
	if most := longest + 1 + longest + 1 + validation.DNS1123LabelMaxLength; len(name) > most {
		errs = append(errs, field.TooLong(path, "", most))
	}
	return errs
}
