package manifest

import (
	v1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validatePlacement checks the fields that say on which node a pod may run, as far
// as a node looks at them.
func validatePlacement(s *v1.PodSpec, path *field.Path) field.ErrorList {
	errs := unversioned.ValidateLabels(s.NodeSelector, path.Child("nodeSelector"))
	if os := s.OS; os != nil {
		if os.Name == "" {
			errs = append(errs, field.Required(path.Child("os", "name"), ""))
		} else {
			errs = append(errs, oneOf(os.Name, path.Child("os"), v1.Linux, v1.Windows)...)
		}
	}
	for i := range s.Tolerations {
		errs = append(errs, validateToleration(&s.Tolerations[i], path.Child("tolerations").Index(i))...)
	}
	if s.Affinity == nil || s.Affinity.NodeAffinity == nil {
		return errs
	}
	path = path.Child("affinity", "nodeAffinity")
	if required := s.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution; required != nil {
		errs = append(errs, validateNodeSelector(required, path.Child("requiredDuringSchedulingIgnoredDuringExecution"))...)
	}
	preferred := s.Affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution
	for i := range preferred {
		at := path.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(i)
		if w := preferred[i].Weight; w < 1 || w > 100 {
			errs = append(errs, field.Invalid(at.Child("weight"), w, "must be in the range 1-100"))
		}
		errs = append(errs, validateTerm(&preferred[i].Preference, false, at.Child("preference"))...)
	}
	return errs
}

func validateNodeSelector(s *v1.NodeSelector, path *field.Path) field.ErrorList {
	path = path.Child("nodeSelectorTerms")
	var errs field.ErrorList
	if len(s.NodeSelectorTerms) == 0 {
		errs = append(errs, field.Required(path, "must have at least one node selector term"))
	}
	for i := range s.NodeSelectorTerms {
		errs = append(errs, validateTerm(&s.NodeSelectorTerms[i], true, path.Index(i))...)
	}
	return errs
}

// validateTerm checks a term of a node selector. Only if the term is required must
// its values be possible label values.
func validateTerm(t *v1.NodeSelectorTerm, must bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range t.MatchExpressions {
		r, at := &t.MatchExpressions[i], path.Child("matchExpressions").Index(i)
		switch r.Operator {
		case v1.NodeSelectorOpIn, v1.NodeSelectorOpNotIn:
			if len(r.Values) == 0 {
				errs = append(errs, field.Required(at.Child("values"), "must be specified when `operator` is 'In' or 'NotIn'"))
			}
		case v1.NodeSelectorOpExists, v1.NodeSelectorOpDoesNotExist:
			if len(r.Values) > 0 {
				errs = append(errs, field.Forbidden(at.Child("values"), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"))
			}
		case v1.NodeSelectorOpGt, v1.NodeSelectorOpLt:
			if len(r.Values) != 1 {
				errs = append(errs, field.Required(at.Child("values"), "must be specified single value when `operator` is 'Lt' or 'Gt'"))
			}
		default:
			errs = append(errs, field.Invalid(at.Child("operator"), r.Operator, "not a valid selector operator"))
		}
		errs = append(errs, unversioned.ValidateLabelName(r.Key, at.Child("key"))...)
		for j, value := range r.Values {
			if must {
				errs = append(errs, nameErrors(validation.IsValidLabelValue(value), value, at.Child("values").Index(j))...)
			}
		}
	}
	for i := range t.MatchFields {
		r, at := &t.MatchFields[i], path.Child("matchFields").Index(i)
		switch r.Operator {
		case v1.NodeSelectorOpIn, v1.NodeSelectorOpNotIn:
			if len(r.Values) != 1 {
				errs = append(errs, field.Required(at.Child("values"), "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"))
			}
		default:
			errs = append(errs, field.Invalid(at.Child("operator"), r.Operator, "not a valid selector operator"))
		}
		if r.Key != metav1.ObjectNameField {
			errs = append(errs, field.Invalid(at.Child("key"), r.Key, "not a valid field selector key"))
			continue
		}
		for j, value := range r.Values {
			errs = append(errs, nameErrors(apivalidation.NameIsDNSSubdomain(value, false), value, at.Child("values").Index(j))...)
		}
	}
	return errs
}

func validateToleration(t *v1.Toleration, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if t.Key != "" {
		errs = append(errs, unversioned.ValidateLabelName(t.Key, path.Child("key"))...)
	}
	if t.Key == "" && t.Operator != v1.TolerationOpExists {
		errs = append(errs, field.Invalid(path.Child("operator"), t.Operator, "operator must be Exists when `key` is empty, which means \"match all values and all keys\""))
	}
	if t.TolerationSeconds != nil && t.Effect != v1.TaintEffectNoExecute {
		errs = append(errs, field.Invalid(path.Child("effect"), t.Effect, "effect must be 'NoExecute' when `tolerationSeconds` is set"))
	}
	switch t.Operator {
	case v1.TolerationOpEqual, "":
		errs = append(errs, nameErrors(validation.IsValidLabelValue(t.Value), t.Value, path.Child("operator"))...)
	case v1.TolerationOpExists:
		if t.Value != "" {
			errs = append(errs, field.Invalid(path.Child("operator"), t, "value must be empty when `operator` is 'Exists'"))
		}
	case v1.TolerationOpLt, v1.TolerationOpGt:
	default:
		errs = append(errs, field.NotSupported(path.Child("operator"), t.Operator, []v1.TolerationOperator{v1.TolerationOpEqual, v1.TolerationOpExists}))
	}
	if t.Effect != "" {
		errs = append(errs, oneOf(t.Effect, path.Child("effect"), v1.TaintEffectNoSchedule, v1.TaintEffectPreferNoSchedule, v1.TaintEffectNoExecute)...)
	}
	return errs
}
