package provider

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	kubeletconfig "k8s.io/kubelet/config/v1"
	api "k8s.io/kubelet/pkg/apis/credentialprovider/v1"
	"sigs.k8s.io/yaml"

	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/image/keyring"
)

// versions are the API versions that plug-ins may speak. They differ only in fields
// that the last one has.
var versions = []string{"credentialprovider.kubelet.k8s.io/v1alpha1", "credentialprovider.kubelet.k8s.io/v1beta1", api.SchemeGroupVersion.String()}

// load reads a CredentialProviderConfig, or all *.json, *.yaml and *.yml of a
// directory in order of their names.
func load(path string) ([]kubeletconfig.CredentialProvider, error) {
	files := []string{path}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		if files, err = configFiles(path); err != nil {
			return nil, err
		}
	}
	var all []kubeletconfig.CredentialProvider
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		list, err := parse(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, list...)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: no providers", path)
	}
	return all, validate(all)
}

func configFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir) // in order
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if !e.IsDir() && slices.Contains([]string{".json", ".yaml", ".yml"}, filepath.Ext(e.Name())) {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: no *.json, *.yaml or *.yml", dir)
	}
	return files, nil
}

func parse(data []byte) ([]kubeletconfig.CredentialProvider, error) {
	var c kubeletconfig.CredentialProviderConfig
	if err := yaml.UnmarshalStrict(data, &c); err != nil {
		return nil, err
	}
	gvk := c.GroupVersionKind()
	if gvk.Kind != "CredentialProviderConfig" || gvk.Group != kubeletconfig.GroupName || !slices.Contains([]string{"v1", "v1beta1", "v1alpha1"}, gvk.Version) {
		return nil, fmt.Errorf("want a CredentialProviderConfig of kubelet.config.k8s.io/v1, got %q of %q", c.Kind, c.APIVersion)
	}
	for _, p := range c.Providers {
		if p.TokenAttributes != nil && gvk.Version != "v1" {
			return nil, fmt.Errorf("provider %s: tokenAttributes: not in %s", p.Name, c.APIVersion)
		}
	}
	return c.Providers, nil
}

// validate reports everything that is wrong, by provider.
func validate(list []kubeletconfig.CredentialProvider) error {
	var errs []error
	seen := map[string]bool{}
	for i, p := range list {
		bad := func(field, format string, args ...any) {
			errs = append(errs, fmt.Errorf("provider %d (%s): %s: %s", i, p.Name, field, fmt.Sprintf(format, args...)))
		}
		switch {
		case p.Name == "" || p.Name == "." || p.Name == ".." || strings.ContainsAny(p.Name, "/ "):
			bad("name", "must be the name of a program, got %q", p.Name)
		case seen[p.Name]:
			bad("name", "is there twice")
		}
		seen[p.Name] = true
		if !slices.Contains(versions, p.APIVersion) {
			bad("apiVersion", "must be one of %s, got %q", strings.Join(versions, ", "), p.APIVersion)
		}
		if len(p.MatchImages) == 0 {
			bad("matchImages", "is missing")
		}
		for _, m := range p.MatchImages {
			if err := keyring.ValidPattern(m); err != nil {
				bad("matchImages", "%v", err)
			}
		}
		switch d := p.DefaultCacheDuration; {
		case d == nil:
			bad("defaultCacheDuration", "is missing")
		case d.Duration < 0:
			bad("defaultCacheDuration", "must not be negative, got %s", d.Duration)
		}
		if p.TokenAttributes != nil {
			validateToken(p, bad)
		}
	}
	return errors.Join(errs...)
}

func validateToken(p kubeletconfig.CredentialProvider, bad func(field, format string, args ...any)) {
	t := p.TokenAttributes
	at := func(field string) string { return "tokenAttributes." + field }
	if p.APIVersion != api.SchemeGroupVersion.String() {
		bad("tokenAttributes", "needs apiVersion %s", api.SchemeGroupVersion)
	}
	if t.ServiceAccountTokenAudience == "" {
		bad(at("serviceAccountTokenAudience"), "is missing")
	}
	switch {
	case t.RequireServiceAccount == nil:
		bad(at("requireServiceAccount"), "is missing")
	case !*t.RequireServiceAccount && len(t.RequiredServiceAccountAnnotationKeys) > 0:
		bad(at("requiredServiceAccountAnnotationKeys"), "needs requireServiceAccount")
	}
	if t.CacheType != kubeletconfig.ServiceAccountServiceAccountTokenCacheType && t.CacheType != kubeletconfig.TokenServiceAccountTokenCacheType {
		bad(at("cacheType"), "must be %s or %s, got %q", kubeletconfig.ServiceAccountServiceAccountTokenCacheType, kubeletconfig.TokenServiceAccountTokenCacheType, t.CacheType)
	}
	seen := map[string]bool{}
	for _, key := range slices.Concat(t.RequiredServiceAccountAnnotationKeys, t.OptionalServiceAccountAnnotationKeys) {
		if problems := validation.IsQualifiedName(strings.ToLower(key)); len(problems) > 0 {
			bad("tokenAttributes", "annotation key %q: %s", key, strings.Join(problems, "; "))
		}
		if seen[key] {
			bad("tokenAttributes", "annotation key %q is there twice", key)
		}
		seen[key] = true
	}
}

// findProgram returns the path of a provider's executable.
func findProgram(dir, name string) (string, error) {
	path, err := exec.LookPath(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
		return "", fmt.Errorf("plug-in %s: there is no such program in %s", name, dir)
	}
	if err != nil {
		return "", fmt.Errorf("plug-in %s: %w", name, err)
	}
	return path, nil
}
