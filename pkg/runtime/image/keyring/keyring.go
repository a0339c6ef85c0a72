package keyring

import (
	"context"
	"fmt"

	"github.com/distribution/reference"
	v1 "k8s.io/api/core/v1"
)

// Ring is one place where credentials are found.
type Ring interface {
	// Find returns the pod's credentials for a repository with its registry's name,
	// e.g. "docker.io/library/busybox", best first.
	Find(ctx context.Context, pod *v1.Pod, repository string) ([]Credential, error)
}

// Keyring asks several rings in turn. Safe for concurrent use if they are.
type Keyring []Ring

// Lookup returns what the pod has for the image, best first; none means an
// anonymous pull.
func (k Keyring) Lookup(ctx context.Context, pod *v1.Pod, image string) ([]Credential, error) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return nil, fmt.Errorf("couldn't parse image reference %q: %w", image, err)
	}
	var all []Credential
	for _, ring := range k {
		found, err := ring.Find(ctx, pod, named.Name())
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}
