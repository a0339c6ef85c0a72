package nodeobject

import (
	"encoding/json"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
)

// older reports whether a is an older version than b. Versions that cannot be
// compared count as not older.
func older(a, b *v1.Node) bool {
	if a.UID != b.UID {
		return false
	}
	c, err := resourceversion.CompareResourceVersion(a.ResourceVersion, b.ResourceVersion)
	return err == nil && c < 0
}

func encode(n *v1.Node) ([]byte, error) { return json.Marshal(n) }
