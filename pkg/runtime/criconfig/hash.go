package criconfig

import (
	"encoding/json"
	"hash/fnv"

	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/dump"
)

// HashContainer identifies what a running container was made from: a container
// whose hash differs is killed and replaced. As in Kubernetes 1.37 only name and
// image count, so a new field in a later release restarts nothing. The value equals
// the kubelet's, so containers made by a kubelet are adopted as they are.
func HashContainer(c *v1.Container) uint64 {
	h := fnv.New32a()
	// A map of strings always marshals, with sorted keys.
	text, _ := json.Marshal(map[string]string{"name": c.Name, "image": c.Image})
	_, _ = h.Write([]byte(dump.ForHash(text)))
	return uint64(h.Sum32())
}
