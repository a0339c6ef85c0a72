package options

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/resource"
)

// ParseLogSize reads containerLogMaxSize: a quantity such as 10Mi, in whole bytes. A negative
// one switches the rotation of logs off.
func ParseLogSize(s string) (bytes int64, err error) {
	q, err := resource.ParseQuantity(s)
	if err != nil {
		return 0, fmt.Errorf("must be a number of bytes such as 10Mi, got %q", s)
	}
	bytes, ok := q.AsInt64()
	if !ok {
		return 0, fmt.Errorf("must be a whole number of bytes, got %q", s)
	}
	return bytes, nil
}
