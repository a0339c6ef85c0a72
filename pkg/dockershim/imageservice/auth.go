package imageservice

import (
	"encoding/base64"
	"fmt"
	"path"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/registry"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// credentials are for one pull. They have no String and no exported field.
type credentials struct {
	header  string   // X-Registry-Auth; empty: none
	secrets []string // texts that no error may contain
}

// pullCredentials converts CRI's auth to Docker's. Credentials for a registry other than the
// image's are not sent, and foreign is true then.
func pullCredentials(auth *cri.AuthConfig, image reference.Named) (c credentials, foreign bool, err error) {
	if auth == nil {
		return credentials{}, false, nil
	}
	domain := reference.Domain(image)
	if !sameRegistry(auth.ServerAddress, domain) {
		return credentials{}, true, nil
	}
	out := registry.AuthConfig{
		Username: auth.Username, Password: auth.Password,
		IdentityToken: auth.IdentityToken, RegistryToken: auth.RegistryToken,
	}
	if out.Username == "" && out.IdentityToken == "" && out.RegistryToken == "" && auth.Auth != "" {
		if out.Username, out.Password, err = splitAuth(auth.Auth); err != nil {
			return credentials{}, false, grpccode.Invalid("auth.auth", "%v", err)
		}
	}
	if out == (registry.AuthConfig{}) {
		return credentials{}, false, nil
	}
	out.ServerAddress = domain
	c.header, err = registry.EncodeAuthConfig(out)
	if err != nil {
		return credentials{}, false, grpccode.Refused(codes.Internal, "encode the credentials for %s", domain)
	}
	for _, secret := range []string{out.Password, out.IdentityToken, out.RegistryToken, auth.Auth, c.header} {
		// Shorter ones would blot out parts of ordinary words.
		if len(secret) >= 4 {
			c.secrets = append(c.secrets, secret)
		}
	}
	return c, false, nil
}

// redact removes the secrets from a text that came from elsewhere.
func (c credentials) redact(text string) string {
	for _, secret := range c.secrets {
		text = strings.ReplaceAll(text, secret, "[redacted]")
	}
	return text
}

// splitAuth decodes base64("user:password"). Its errors do not contain the input.
func splitAuth(auth string) (user, password string, err error) {
	plain, err := base64.StdEncoding.DecodeString(strings.TrimSpace(auth))
	if err != nil {
		return "", "", fmt.Errorf("not base64")
	}
	user, password, found := strings.Cut(string(plain), ":")
	if !found {
		return "", "", fmt.Errorf("not of the form base64(user:password)")
	}
	return user, strings.Trim(password, "\x00"), nil
}

// sameRegistry reports whether credentials stored for server, in the form of a Docker
// configuration file (a host, URL or host with wildcards), are for the registry domain. An
// empty server means any.
func sameRegistry(server, domain string) bool {
	if server == "" {
		return true
	}
	if _, after, isURL := strings.Cut(server, "://"); isURL {
		server = after
	}
	server, _, _ = strings.Cut(server, "/")
	if hub[server] && hub[domain] {
		return true
	}
	matched, err := path.Match(server, domain)
	return err == nil && matched
}

// hub are the names of Docker Hub.
var hub = map[string]bool{"docker.io": true, "index.docker.io": true, "registry-1.docker.io": true}
