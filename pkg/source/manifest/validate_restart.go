package manifest

import (
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Limits of restart rules, as in the API.
const (
	maxRestartRules = 20
	maxExitCodes    = 255
)

func validateRestart(c *v1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	own, rules := path.Child("restartPolicy"), path.Child("restartPolicyRules")
	switch {
	case c.RestartPolicy != nil:
		allowed := []v1.ContainerRestartPolicy{v1.ContainerRestartPolicyAlways, v1.ContainerRestartPolicyNever, v1.ContainerRestartPolicyOnFailure}
		if !slices.Contains(allowed, *c.RestartPolicy) {
			errs = append(errs, field.NotSupported(own, *c.RestartPolicy, allowed))
		}
	case len(c.RestartPolicyRules) > 0:
		errs = append(errs, field.Required(own, "must specify restartPolicy when restart rules are used"))
	}
	if n := len(c.RestartPolicyRules); n > maxRestartRules {
		errs = append(errs, field.TooMany(rules, n, maxRestartRules))
	}
	for i, r := range c.RestartPolicyRules {
		at := rules.Index(i)
		if allowed := []v1.ContainerRestartRuleAction{v1.ContainerRestartRuleActionRestart, v1.ContainerRestartRuleActionRestartAllContainers}; !slices.Contains(allowed, r.Action) {
			errs = append(errs, field.NotSupported(at.Child("action"), r.Action, allowed))
		}
		if r.ExitCodes == nil {
			errs = append(errs, field.Required(at.Child("exitCodes"), "must be specified"))
			continue
		}
		if allowed := []v1.ContainerRestartRuleOnExitCodesOperator{v1.ContainerRestartRuleOnExitCodesOpIn, v1.ContainerRestartRuleOnExitCodesOpNotIn}; !slices.Contains(allowed, r.ExitCodes.Operator) {
			errs = append(errs, field.NotSupported(at.Child("exitCodes", "operator"), r.ExitCodes.Operator, allowed))
		}
		if n := len(r.ExitCodes.Values); n > maxExitCodes {
			errs = append(errs, field.TooMany(at.Child("exitCodes", "values"), n, maxExitCodes))
		}
	}
	return errs
}
