package image

import (
	"fmt"
	"strings"

	"github.com/distribution/reference"
	v1 "k8s.io/api/core/v1"
)

// withDefaultTag returns the image name with ":latest" if it names neither tag
// nor digest. Short names stay short: the runtime knows its default registry.
func withDefaultTag(image string) (string, error) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return "", fmt.Errorf("couldn't parse image reference %q: %w", image, err)
	}
	if reference.IsNameOnly(named) {
		return image + ":latest", nil
	}
	return image, nil
}

// policy returns the container's pull policy, or the API's default for its image.
func policy(c *v1.Container, tagged string) v1.PullPolicy {
	switch {
	case c.ImagePullPolicy != "":
		return c.ImagePullPolicy
	case strings.HasSuffix(tagged, ":latest"):
		return v1.PullAlways
	}
	return v1.PullIfNotPresent
}
