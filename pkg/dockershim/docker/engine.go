package docker

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/client"
	"k8s.io/klog/v2"
)

// minAPIVersion is the oldest Docker API that the dockershim speaks: Docker 1.13.
const minAPIVersion = "1.26"

// connectTimeout is how long Connect waits for a Docker that does not answer yet, as when
// both start with the machine.
const connectTimeout = 30 * time.Second

// Engine is a Docker daemon: its client, and how it described itself when we connected.
type Engine struct {
	*client.Client
	http  *http.Client // for answers that we decode ourselves: lists and events
	About system.Info
}

// Connect waits until Docker answers, for half a minute at most, agrees on an API version and
// asks Docker about itself. by, unless nil, hears of each call to Docker. The caller closes the Engine.
func Connect(ctx context.Context, endpoint string, by Observer) (*Engine, error) {
	// Many calls run at once when a node starts its pods; their connections are kept.
	transport := &http.Transport{
		MaxIdleConns: 16, MaxIdleConnsPerHost: 16, IdleConnTimeout: 30 * time.Second, DisableCompression: true,
	}
	hc := &http.Client{Transport: transport, CheckRedirect: client.CheckRedirect}
	c, err := client.NewClientWithOpts(client.WithHTTPClient(hc),
		client.WithTLSClientConfigFromEnv(), client.WithHost(endpoint), client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, fmt.Errorf("docker endpoint %q: %w", endpoint, err)
	}
	hc.Transport = observe(boundedImages{hc.Transport}, by) // the client configures no other than net/http's own
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	ping, err := waitFor(ctx, c)
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("reach Docker at %s: %w", endpoint, err)
	}
	if versions.LessThan(ping.APIVersion, minAPIVersion) {
		c.Close()
		return nil, fmt.Errorf("docker at %s speaks API %s at most; %s or newer is needed (Docker 1.13)", endpoint, ping.APIVersion, minAPIVersion)
	}
	c.NegotiateAPIVersionPing(ping)
	info, err := c.Info(ctx)
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("ask Docker at %s what it is: %w", endpoint, err)
	}
	dial := c.Dialer()
	raw := &http.Transport{
		DialContext:  func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		MaxIdleConns: 2, IdleConnTimeout: 30 * time.Second, DisableCompression: true,
	}
	return &Engine{Client: c, http: &http.Client{Transport: observe(raw, by)}, About: info}, nil
}

// maxImageAnswer is how long Docker's description of one image may be, in bytes. The author of
// the image writes it, and 150 MB of labels take two gigabytes to read before they can be
// refused.
const maxImageAnswer = 8 << 20

// boundedImages cuts off descriptions of images that are too long.
type boundedImages struct{ http.RoundTripper }

func (b boundedImages) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(req)
	if _, name, of := strings.Cut(req.URL.Path, "/images/"); err == nil && of && req.Method == http.MethodGet && strings.HasSuffix(name, "/json") {
		resp.Body = &bounded{resp.Body, maxImageAnswer}
	}
	return resp, err
}

// bounded is a body that fails after more than left bytes. http.MaxBytesReader would do the
// same without saying of what there is too much.
type bounded struct {
	io.ReadCloser
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left+1)])
	if b.left -= n; b.left < 0 {
		return 0, fmt.Errorf("what the image says of itself is longer than %d MiB", maxImageAnswer>>20)
	}
	return n, err
}

// waitFor pings Docker until it answers, or ctx ends.
func waitFor(ctx context.Context, c *client.Client) (types.Ping, error) {
	for try := 0; ; try++ {
		ping, err := c.Ping(ctx)
		if err == nil || !Away(err) {
			return ping, err
		}
		if try == 0 {
			klog.InfoS("Docker does not answer yet, waiting for it", "endpoint", c.DaemonHost(), "err", err)
		}
		select {
		case <-ctx.Done():
			return ping, err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// get asks Docker for a path with a query; the caller reads and closes the body.
func (e *Engine) get(ctx context.Context, path, query string) (*http.Response, error) {
	url := "http://docker/v" + e.ClientVersion() + path
	if query != "" {
		url += "?" + query
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := e.http.Do(req)
	if err != nil {
		if ctx.Err() == nil {
			err = errAway{err}
		}
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		text := make([]byte, 1024)
		n, _ := resp.Body.Read(text)
		return nil, fmt.Errorf("docker answered %s: %s", resp.Status, strings.TrimSpace(string(text[:n])))
	}
	return resp, nil
}

// LogFile returns the file in which Docker keeps the output of a container.
func (e *Engine) LogFile(id string) string {
	return fmt.Sprintf("%s/containers/%s/%s-json.log", e.About.DockerRootDir, id, id)
}

// errAway marks an error on the way to Docker, for Away.
type errAway struct{ error }

func (e errAway) Unwrap() error { return e.error }
func (errAway) Unavailable()    {}
