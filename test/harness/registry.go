package harness

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Registry is an image registry in this process, on loopback, where Docker accepts
// plain HTTP. It can be made to fail.
type Registry struct {
	Host   string // 127.0.0.1:port
	down   atomic.Bool
	pulls  atomic.Int64
	logins atomic.Pointer[map[string]string]
	pace   atomic.Int64 // bytes of a layer a second; 0: as fast as it can
}

// StartRegistry starts an empty registry that ends with the test.
func StartRegistry(t T) *Registry {
	t.Helper()
	r := &Registry{}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.Contains(req.URL.Path, "/manifests/") && req.Method != http.MethodPut && req.UserAgent() != pusher {
			r.pulls.Add(1)
		}
		if r.down.Load() {
			http.Error(w, "registry is down", http.StatusServiceUnavailable)
			return
		}
		if req.UserAgent() != pusher && !r.letsIn(req) {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
			return
		}
		if strings.Contains(req.URL.Path, "/blobs/") && req.Method == http.MethodGet {
			w = paced{w, r, req}
		}
		inner.ServeHTTP(w, req)
	}))
	t.Cleanup(srv.Close)
	r.Host = strings.TrimPrefix(srv.URL, "http://")
	return r
}

// pusher is the user agent of the test's own requests, which are not pulls.
const pusher = "harness-pusher"

// SetDown makes every request fail with 503, or ends that.
func (r *Registry) SetDown(down bool) { r.down.Store(down) }

// SetPace bounds how many bytes of each layer are sent in a second, also of those that are being sent; 0 is no bound.
func (r *Registry) SetPace(bytes int64) { r.pace.Store(bytes) }

// paced sends a layer at the registry's pace.
type paced struct {
	http.ResponseWriter
	registry *Registry
	req      *http.Request
}

// Write implements io.Writer.
func (p paced) Write(b []byte) (n int, err error) {
	for err == nil && n < len(b) {
		part := b[n:]
		if pace := p.registry.pace.Load(); pace > 0 {
			part = part[:min(int64(len(part)), max(1, pace/20))]
			select {
			case <-p.req.Context().Done():
				return n, p.req.Context().Err()
			case <-time.After(time.Second * time.Duration(len(part)) / time.Duration(pace)):
			}
		}
		var wrote int
		wrote, err = p.ResponseWriter.Write(part)
		n += wrote
	}
	return n, err
}

// SetLogins makes the registry require one of these users and passwords; nil lets
// everybody in again.
func (r *Registry) SetLogins(passwords map[string]string) { r.logins.Store(&passwords) }

func (r *Registry) letsIn(req *http.Request) bool {
	passwords := r.logins.Load()
	if passwords == nil || *passwords == nil {
		return true
	}
	user, password, ok := req.BasicAuth()
	want, known := (*passwords)[user]
	return ok && known && password == want
}

// Pulls counts the requests for manifests, including failed ones.
func (r *Registry) Pulls() int64 { return r.pulls.Load() }

// Push pushes the busybox image to the registry and returns its reference.
func (r *Registry) Push(t T, repo, tag string) string {
	t.Helper()
	return r.PushLarge(t, repo, tag, 0)
}

// PushLarge pushes the busybox image with a second layer of so many bytes that do not compress, none for 0.
func (r *Registry) PushLarge(t T, repo, tag string, bytes int) string {
	t.Helper()
	ref := fmt.Sprintf("%s/%s:%s", r.Host, repo, tag)
	fs, err := busyboxTar()
	if err != nil {
		t.Fatalf("%v", err)
	}
	layers := []v1.Layer{layerOf(t, fs)}
	if bytes > 0 {
		layers = append(layers, layerOf(t, randomTar(t, bytes)))
	}
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatalf("make an image: %v", err)
	}
	img, err = mutate.ConfigFile(img, &v1.ConfigFile{
		Architecture: "amd64", OS: "linux",
		RootFS: mustConfig(t, img).RootFS,
		Config: v1.Config{Cmd: []string{"/bin/sh"}, Env: []string{"PATH=/bin"}},
	})
	if err != nil {
		t.Fatalf("configure an image: %v", err)
	}
	parsed, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		t.Fatalf("image reference %s: %v", ref, err)
	}
	if err := remote.Write(parsed, img, remote.WithContext(t.Context()), remote.WithUserAgent(pusher)); err != nil {
		t.Fatalf("push %s: %v", ref, err)
	}
	return ref
}

func layerOf(t T, fs []byte) v1.Layer {
	t.Helper()
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(fs)), nil })
	if err != nil {
		t.Fatalf("make a layer: %v", err)
	}
	return layer
}

// randomTar is an archive of one file.
func randomTar(t T, size int) []byte {
	t.Helper()
	content := make([]byte, size)
	_, _ = rand.Read(content) // which never fails
	var out bytes.Buffer
	to := tar.NewWriter(&out)
	err := to.WriteHeader(&tar.Header{Name: "random", Mode: 0o644, Size: int64(size)})
	if err == nil {
		_, err = to.Write(content)
	}
	if err := errors.Join(err, to.Close()); err != nil {
		t.Fatalf("make an archive: %v", err)
	}
	return out.Bytes()
}

func mustConfig(t T, img v1.Image) *v1.ConfigFile {
	t.Helper()
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatalf("read an image's configuration: %v", err)
	}
	return c
}
