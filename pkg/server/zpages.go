package server

import (
	"fmt"
	"net/http"
	"slices"

	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/server/flagz"
	"k8s.io/apiserver/pkg/server/statusz"
	"k8s.io/component-base/compatibility"
)

// component is what the kubelet calls itself in these pages; who reads them looks for that.
const component = "kubelet"

// flags are the values of the command line's flags, as they count.
type flags func() map[string]string

// GetFlagz implements flagz.Reader.
func (f flags) GetFlagz() map[string]string { return f() }

// getOnly passes on what a page is read with.
type getOnly struct{ *http.ServeMux }

// Handle implements what statusz and flagz install themselves in.
func (m getOnly) Handle(path string, h http.Handler) { m.ServeMux.Handle("GET "+path, h) }

// addZPages serves /statusz and /flagz (KEP-4827, KEP-4828): text, or the versioned objects that a client asks for
// by Accept.
func (a *api) addZPages(mux *http.ServeMux) error {
	if a.Version == "" {
		return nil
	}
	if _, err := version.Parse(a.Version); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	effective := compatibility.NewEffectiveVersionFromString(a.Version, "", "")
	paths := []string{"/healthz", "/metrics", "/pods", "/stats", "/statusz"}
	if a.Debugging {
		paths = append(paths, "/configz", "/debug")
	}
	if a.Flags != nil {
		flagz.Install(getOnly{mux}, component, flags(a.Flags))
		paths = append(paths, "/flagz")
	}
	slices.Sort(paths)
	statusz.Install(getOnly{mux}, component, statusz.NewRegistry(effective, statusz.WithListedPaths(paths)))
	return nil
}
