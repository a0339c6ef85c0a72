package docker

import "encoding/json"

// ImageVolume is an image that a container has mounted (KEP-4639). The container gets a
// bind mount; its label says what that is.
type ImageVolume struct {
	Path    string `json:"path"`  // in the container
	Named   string `json:"named"` // as the client named the image
	ID      string `json:"id"`
	SubPath string `json:"subPath,omitempty"`

	// Source is the directory on the host. Only a container that is being created has it.
	Source string `json:"-"`
}

// SetImageVolumes labels a container with its image volumes.
func SetImageVolumes(labels map[string]string, volumes []ImageVolume) {
	if len(volumes) > 0 {
		labels[LabelVolumes] = marshal(volumes)
	}
}

// ImageVolumesOf reads a container's image volumes from its labels, which must be trusted.
func ImageVolumesOf(labels map[string]string) []ImageVolume {
	var all []ImageVolume
	if text := labels[LabelVolumes]; text != "" {
		_ = json.Unmarshal([]byte(text), &all) // trusted: nobody else writes it
	}
	return all
}
