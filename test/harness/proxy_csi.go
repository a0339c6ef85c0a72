package harness

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/mini-kubelet/mini-kubelet/test/csidriver"
)

// StartCSIProxy starts a driver with its sockets in a directory of its own, and the proxy
// at the sockets where the agent finds it: for calls of its services and its registration.
func StartCSIProxy(t T, a *Agent, cfg csidriver.Config) (*csidriver.Driver, *Proxy) {
	t.Helper()
	dir, _, err := newDir("d")
	if err != nil {
		t.Fatalf("%v", err)
	}
	root := filepath.Join(a.Dir, "root")
	registry := filepath.Join(root, "plugins_registry", cfg.Name+"-reg.sock")
	p := &Proxy{Endpoint: filepath.Join(root, "plugins", cfg.Name, "csi.sock")}
	cfg.Root, cfg.Endpoint = dir, p.Endpoint
	d, err := csidriver.Start(cfg)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(d.Stop)
	plain := func(path string) http.Handler {
		protocols := &http.Protocols{}
		protocols.SetUnencryptedHTTP2(true)
		return reverse(t, &http.Transport{Protocols: protocols, DialContext: toSocket(path)}, "http", "driver")
	}
	services := plain(filepath.Join(dir, "plugins", cfg.Name, "csi.sock"))
	registration := plain(filepath.Join(dir, "plugins_registry", cfg.Name+"-reg.sock"))
	p.forward = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/pluginregistration.") {
			registration.ServeHTTP(w, r)
			return
		}
		services.ServeHTTP(w, r)
	})
	for _, sock := range []string{p.Endpoint, registry} { // the agent looks once the last is there
		if err := os.MkdirAll(filepath.Dir(sock), 0o750); err != nil {
			t.Fatalf("%v", err)
		}
		protocols := &http.Protocols{}
		protocols.SetUnencryptedHTTP2(true)
		p.serveOn(t, &http.Server{Protocols: protocols}, sock)
	}
	return d, p
}
