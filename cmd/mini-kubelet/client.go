package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/httpstream"      //lint:ignore SA1019 client-go takes these types still
	"k8s.io/apimachinery/pkg/util/httpstream/spdy" //lint:ignore SA1019 client-go takes these types still
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	transportspdy "k8s.io/client-go/transport/spdy"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/ownsocket"
	"github.com/mini-kubelet/mini-kubelet/pkg/config"
)

// requestTimeout bounds a request that is no stream.
const requestTimeout = 30 * time.Second

// connection says how a command reaches the agent: by its socket, or with --server by the network.
type connection struct {
	rootDir, server  string
	certificate, key string
	authority, token string
	insecure         bool
}

// addTo defines the flags. Those of the network have kubectl's names.
func (c *connection) addTo(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&c.rootDir, "root-dir", config.DefaultRootDir, "root directory of the agent, in which its socket is")
	fs.StringVar(&c.server, "server", "", "address of the agent's kubelet API, such as https://node:10250, in place of its socket")
	fs.StringVar(&c.certificate, "client-certificate", "", "file with the client certificate to show to --server")
	fs.StringVar(&c.key, "client-key", "", "file with the key of that certificate")
	fs.StringVar(&c.authority, "certificate-authority", "", "file with the CA that --server's certificate is verified with")
	fs.BoolVar(&c.insecure, "insecure-skip-tls-verify", false, "do not verify --server's certificate")
	fs.StringVar(&c.token, "token", "", "bearer token for --server")
}

// agentClient asks one agent.
type agentClient struct {
	base   *url.URL
	where  string // for messages
	socket string // "" over the network
	http   *http.Client
	config *rest.Config // of --server
}

// client makes no request.
func (c *connection) client() (*agentClient, error) {
	if c.server == "" {
		path := config.LocalSocket(c.rootDir)
		// The name is only what the request's Host header says.
		base := &url.URL{Scheme: "http", Host: "localhost"}
		return &agentClient{base: base, where: "socket " + path, socket: path, http: &http.Client{Transport: socketTransport(path)}}, nil
	}
	base, err := url.Parse(strings.TrimSuffix(c.server, "/"))
	if err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" {
		return nil, fmt.Errorf("--server %s: want an address like https://node:10250", c.server)
	}
	cfg := &rest.Config{
		Host: base.String(), BearerToken: c.token,
		TLSClientConfig: rest.TLSClientConfig{CertFile: c.certificate, KeyFile: c.key, CAFile: c.authority, Insecure: c.insecure},
	}
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("use --server %s: %w", c.server, err)
	}
	return &agentClient{base: base, where: base.String(), http: client, config: cfg}, nil
}

func socketTransport(path string) *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return ownsocket.Dial(ctx, path) }}
}

// url is an address below the kubelet API; the words of the path may hold anything.
func (c *agentClient) url(query url.Values, path ...string) *url.URL {
	u := c.base.JoinPath(path...)
	u.RawQuery = query.Encode()
	return u
}

// get returns the answer to a request, which the caller closes. The error is interrupted if the command was.
func (c *agentClient) get(ctx context.Context, u *url.URL) (*http.Response, error) {
	return c.getWith(ctx, u, nil)
}

// getWith is get with headers of the request's own.
func (c *agentClient) getWith(ctx context.Context, u *url.URL, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, header)
	resp, err := c.http.Do(req)
	switch {
	case isCanceled(ctx):
		if err == nil {
			resp.Body.Close()
		}
		return nil, interrupted
	case err != nil:
		return nil, c.explain(err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	return nil, c.refused(u.Path, resp.StatusCode, strings.TrimSpace(string(text)))
}

// getJSON reads an answer as a whole.
func (c *agentClient) getJSON(ctx context.Context, into any, u *url.URL) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := c.get(ctx, u)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch err := json.NewDecoder(resp.Body).Decode(into); {
	case err != nil && isCanceled(ctx):
		return interrupted
	case err != nil:
		return fmt.Errorf("%s does not answer %s as an agent does: %w", c.where, u.Path, err)
	}
	return nil
}

// pods lists the pods that the agent has.
func (c *agentClient) pods(ctx context.Context) (*v1.PodList, error) {
	list := &v1.PodList{}
	return list, c.getJSON(ctx, list, c.url(nil, "pods"))
}

// closedBefore is net/http's own error, which it does not export, of a connection that was closed before it was used.
const closedBefore = "http: server closed idle connection"

// closedByAgent reports whether an agent closed the connection before it answered. Which error net/http then has
// depends on which of its goroutines saw the end first, and on what that one was doing.
func closedByAgent(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed) ||
		strings.HasSuffix(err.Error(), closedBefore)
}

// explain says in plain words why there was no answer.
func (c *agentClient) explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("no permission to open the agent's %s: run this as root, or use --server", c.where)
	case c.socket != "" && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)):
		return fmt.Errorf("no agent answers at %s: start mini-kubelet, or give its --root-dir, or --server for one elsewhere", c.where)
	case c.socket != "" && closedByAgent(err):
		return fmt.Errorf("the agent at %s has closed the connection: only root of this machine may use it, from outside of containers that lack its power", c.where)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no agent answers at %s: start mini-kubelet, or give another address with --server; standalone, it is served once authentication.x509.clientCAFile is set", c.where)
	}
	return fmt.Errorf("ask the agent: %w", err)
}

// refused says in plain words what an HTTP status means.
func (c *agentClient) refused(path string, code int, text string) error {
	switch code {
	case http.StatusUnauthorized:
		return fmt.Errorf("the agent at %s does not know you: give --client-certificate and --client-key, or --token", c.where)
	case http.StatusForbidden:
		return fmt.Errorf("the agent at %s does not allow that: %s", c.where, text)
	case http.StatusMethodNotAllowed:
		return fmt.Errorf("the agent at %s does not serve that: %s (enableDebuggingHandlers and the like in its configuration)", c.where, text)
	}
	if text == "" || code == http.StatusNotFound && strings.HasPrefix(text, "404 page not found") {
		return fmt.Errorf("%s answers %d to %s; is it an agent's kubelet API?", c.where, code, path)
	}
	return errors.New(text)
}

// upgradeFailed says whether a server, or a proxy before it, knows no WebSockets.
func upgradeFailed(err error) bool {
	return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
}

// spdy returns what makes a SPDY connection.
func (c *agentClient) spdy() (http.RoundTripper, transportspdy.Upgrader, error) {
	if c.config != nil {
		return transportspdy.RoundTripperFor(c.config)
	}
	rt, err := spdy.NewRoundTripperWithConfig(spdy.RoundTripperConfig{UpgradeTransport: socketTransport(c.socket), PingPeriod: 5 * time.Second})
	return rt, rt, err
}

// executor runs exec and attach: by WebSocket, else by SPDY; over the socket, to which client-go's
// WebSockets cannot be led, by SPDY alone.
func (c *agentClient) executor(u *url.URL) (remotecommand.Executor, error) {
	rt, upgrader, err := c.spdy()
	if err != nil {
		return nil, err
	}
	plain, err := remotecommand.NewSPDYExecutorForTransports(rt, upgrader, http.MethodPost, u)
	if err != nil || c.config == nil {
		return plain, err
	}
	web, err := remotecommand.NewWebSocketExecutor(c.config, http.MethodGet, u.String())
	if err != nil {
		return nil, err
	}
	return remotecommand.NewFallbackExecutor(web, plain, upgradeFailed)
}

// dialer connects to a pod's ports, as executor does.
func (c *agentClient) dialer(u *url.URL) (httpstream.Dialer, error) {
	rt, upgrader, err := c.spdy()
	if err != nil {
		return nil, err
	}
	plain := transportspdy.NewDialer(upgrader, &http.Client{Transport: rt}, http.MethodPost, u)
	if c.config == nil {
		return plain, nil
	}
	web, err := portforward.NewSPDYOverWebsocketDialer(u, c.config)
	if err != nil {
		return nil, err
	}
	return portforward.NewFallbackDialer(web, plain, upgradeFailed), nil
}

// ofStream says in plain words why a stream could not begin, or broke off.
func (c *agentClient) ofStream(err error) error {
	var code exitCode
	switch {
	case err == nil || errors.As(err, &code):
		return err
	case errors.Is(err, portforward.ErrLostConnectionToPod):
		return errors.New("the connection to the pod is lost: nothing in it listens at that port, or it has ended, or the agent has")
	}
	text := err.Error()
	for _, library := range []string{"error upgrading connection: ", "unable to upgrade connection: "} {
		text = strings.TrimPrefix(text, library)
	}
	switch {
	case strings.HasPrefix(text, "Unauthorized"):
		return c.refused("", http.StatusUnauthorized, "")
	case strings.HasPrefix(text, "Forbidden"):
		return c.refused("", http.StatusForbidden, strings.TrimSpace(text))
	case strings.HasPrefix(text, "Debug endpoints are disabled"):
		return c.refused("", http.StatusMethodNotAllowed, strings.TrimSpace(text))
	}
	return errors.New(text)
}
