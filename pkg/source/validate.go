package source

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Validate says what the API server would refuse in a pod that is created.
func Validate(pod *v1.Pod) field.ErrorList { return nil }
