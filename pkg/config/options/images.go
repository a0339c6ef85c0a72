package options

import (
	"errors"
	"fmt"
	"strings"

	"github.com/distribution/reference"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

// ImageVerification says for which images that are present a pod must prove that it could
// have pulled them: imagePullCredentialsVerificationPolicy.
type ImageVerification struct {
	mode     kubeletconfig.ImagePullCredentialsVerificationPolicy
	exact    map[string]bool
	prefixes []string
}

// NewImageVerification checks the policy's name and its allowlist, which holds names of
// images without tag and digest, or beginnings of such with "/*" at their end.
func NewImageVerification(mode kubeletconfig.ImagePullCredentialsVerificationPolicy, allowlist []string) (*ImageVerification, error) {
	switch mode {
	case kubeletconfig.NeverVerify, kubeletconfig.NeverVerifyPreloadedImages, kubeletconfig.AlwaysVerify:
		if len(allowlist) > 0 {
			return nil, fmt.Errorf("an allowlist is for %s only", kubeletconfig.NeverVerifyAllowlistedImages)
		}
	case kubeletconfig.NeverVerifyAllowlistedImages:
	default:
		return nil, fmt.Errorf("unknown policy %q: want %s, %s, %s or %s", mode, kubeletconfig.NeverVerify,
			kubeletconfig.NeverVerifyPreloadedImages, kubeletconfig.NeverVerifyAllowlistedImages, kubeletconfig.AlwaysVerify)
	}
	p := &ImageVerification{mode: mode, exact: map[string]bool{}}
	for _, pattern := range allowlist {
		if err := p.allow(pattern); err != nil {
			return nil, fmt.Errorf("%q: %w", pattern, err)
		}
	}
	return p, nil
}

func (p *ImageVerification) allow(pattern string) error {
	beginning, wild := strings.CutSuffix(pattern, "*")
	wild = wild && strings.HasSuffix(beginning, "/")
	switch {
	case pattern != strings.TrimSpace(pattern):
		return errors.New("spaces around it")
	case wild && beginning == "/":
		return errors.New("it needs a registry's name at least")
	case wild && strings.Contains(beginning, "*"), !wild && strings.Contains(pattern, "*"):
		return errors.New(`a * may only stand at the end, after a "/"`)
	case wild:
		p.prefixes = append(p.prefixes, beginning)
		return nil
	}
	name, err := Repository(pattern)
	if err != nil {
		return err
	}
	if name != pattern {
		return errors.New("neither tag nor digest is allowed")
	}
	p.exact[pattern] = true
	return nil
}

// Verifies reports whether an image that is present must be verified. pulled is
// whether it was pulled through this agent, as far as is known.
func (p *ImageVerification) Verifies(image string, pulled bool) bool {
	switch p.mode {
	case kubeletconfig.NeverVerify:
		return false
	case kubeletconfig.NeverVerifyPreloadedImages:
		return pulled
	case kubeletconfig.NeverVerifyAllowlistedImages:
		name, err := Repository(image)
		if err != nil {
			name = image
		}
		for _, prefix := range p.prefixes {
			if strings.HasPrefix(name, prefix) {
				return false
			}
		}
		return !p.exact[name]
	}
	return true
}

// Repository is an image's name as its pod gives it, without tag and digest.
func Repository(image string) (string, error) {
	parsed, err := reference.Parse(image)
	if err != nil {
		return "", fmt.Errorf("couldn't parse image reference %q: %w", image, err)
	}
	if d, ok := parsed.(reference.Digested); ok {
		image = strings.TrimSuffix(image, "@"+d.Digest().String())
	}
	if t, ok := parsed.(reference.Tagged); ok {
		image = strings.TrimSuffix(image, ":"+t.Tag())
	}
	return image, nil
}
