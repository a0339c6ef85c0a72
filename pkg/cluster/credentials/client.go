package credentials

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/certificate"
	"k8s.io/component-base/tracing"
	"k8s.io/klog/v2"
)

// Config says how to reach the API server.
type Config struct {
	Kubeconfig string // to use, or to write once there is a certificate
	Bootstrap  string // kubeconfig that requests the first certificate; may be ""
	CertDir    string // where certificates are kept
	NodeName   string
	UserAgent  string
	// Rotate renews the client certificate before it expires (rotateCertificates).
	Rotate bool
	// QPS and Burst bound the requests to the API server, EventQPS and EventBurst
	// those that write events. QPS 0: no bound, as in KubeletConfiguration.
	QPS, EventQPS     int32
	Burst, EventBurst int32
	ContentType       string        // of requests; "" is protobuf
	HeartbeatTimeout  time.Duration // for one request that renews the lease or reports the node
	// Metrics is where the client's own are registered; nil: nowhere.
	Metrics prometheus.Registerer
	// Traces makes each request a span, and tells the API server of it (traceparent); nil: neither.
	Traces trace.TracerProvider
}

// Client is the node's access to the API server. The three clients differ only in
// their limits: a flood of events or pods must not delay a heartbeat.
type Client struct {
	kubernetes.Interface
	Heartbeat kubernetes.Interface
	// Reviews is for questions about who uses the kubelet API, with a rate of its own.
	Reviews kubernetes.Interface
	Events  kubernetes.Interface

	cfg     Config
	manager certificate.Manager // nil: the kubeconfig is used as it is
	holder  *holder
	write   *clientcmdapi.Config // kubeconfig to write once there is a certificate
	usable  bool                 // there is one already, with a certificate of its own

	requests    *requests
	renewErrors prometheus.Counter
	fixed       *tls.Certificate // of a kubeconfig that is used as it is; nil: it has none
}

// NewClient reads the kubeconfig, or the bootstrap kubeconfig if there is none or
// its certificate has expired. It sends no request: once Run is called, requests
// work, or wait for a certificate.
func NewClient(cfg Config) (*Client, error) {
	c := &Client{cfg: cfg, requests: newRequests(), renewErrors: renewErrors("kubelet_certificate_manager_client_expiration_renew_errors")}
	if cfg.Metrics != nil {
		if err := c.register(cfg.Metrics); err != nil {
			return nil, err
		}
	}
	if err := tidyStore(cfg.CertDir, clientPair); err != nil { // the kubeconfig may name it
		return nil, err
	}
	own, err := load(cfg.Kubeconfig)
	switch {
	case errors.Is(err, os.ErrNotExist) && cfg.Bootstrap != "":
		own = nil
	case err != nil && cfg.Bootstrap == "":
		return nil, fmt.Errorf("--kubeconfig: %w", err)
	case err != nil:
		klog.ErrorS(err, "The kubeconfig cannot be used, bootstrapping again", "path", cfg.Kubeconfig)
		own = nil
	}
	withCertificate := own == nil || own.CertFile != "" || len(own.CertData) > 0
	if own != nil && (!withCertificate || !cfg.Rotate && certificateValid(own)) {
		if cert, key := pair(own); cert != nil {
			if both, err := tls.X509KeyPair(cert, key); err == nil {
				c.fixed = &both
			}
		}
		return c, c.connect(own)
	}
	first := own // where, and as whom, the first certificate is requested
	bootstrap := own == nil || !certificateValid(own)
	if bootstrap {
		if cfg.Bootstrap == "" {
			return nil, fmt.Errorf("--kubeconfig: the client certificate in %s cannot be used or has expired, and there is no --bootstrap-kubeconfig to request another by", cfg.Kubeconfig)
		}
		if first, err = load(cfg.Bootstrap); err != nil {
			return nil, fmt.Errorf("--bootstrap-kubeconfig: %w", err)
		}
	}
	if err := c.manage(first, bootstrap); err != nil {
		return nil, err
	}
	own = rest.AnonymousClientConfig(first)
	if own.Transport, err = newTransport(own, c.holder); err != nil {
		return nil, err
	}
	own.TLSClientConfig = rest.TLSClientConfig{}
	return c, c.connect(own)
}

// manage prepares the manager of the client certificate. first names the API server
// and the identity that requests the first certificate; with bootstrap that
// identity is not the node itself, and its certificate must not be used for
// anything else.
func (c *Client) manage(first *rest.Config, bootstrap bool) error {
	store, err := openStore(c.cfg.CertDir, clientPair)
	if err != nil {
		return fmt.Errorf("open the store of client certificates: %w", err)
	}
	c.holder = newHolder(store)
	var certPEM, keyPEM []byte
	if !bootstrap {
		certPEM, keyPEM = pair(first)
	}
	if c.holder.Current() == nil && certPEM != nil {
		// A kubeconfig with a certificate of its own, as kubeadm makes for a control
		// plane: used until the first renewal.
		if err := c.holder.use(certPEM, keyPEM); err != nil {
			return err
		}
	}
	c.usable = !bootstrap
	c.write = kubeconfigOf(first, store.CurrentPath())
	c.manager, err = certificate.NewManager(&certificate.Config{
		ClientsetFn:             c.requester(first),
		Template:                clientTemplate(c.cfg.NodeName),
		SignerName:              clientSigner,
		GetUsages:               certificate.DefaultKubeletClientGetUsages,
		CertificateStore:        storeOf{c.holder},
		BootstrapCertificatePEM: certPEM, BootstrapKeyPEM: keyPEM,
		Name: "kubelet-client", CertificateRenewFailure: c.renewErrors,
	})
	if err != nil {
		return fmt.Errorf("manage the client certificate: %w", err)
	}
	return nil
}

// reviewTimeout bounds a question about a user.
const reviewTimeout = 10 * time.Second

// connect makes the clients from a complete REST configuration.
func (c *Client) connect(base *rest.Config) error {
	limited := func(qps float32, burst int, timeout time.Duration) (kubernetes.Interface, error) {
		cfg := rest.CopyConfig(base)
		cfg.UserAgent = c.cfg.UserAgent
		cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return &gentle{next: counted{c.requests, next}} })
		if c.cfg.Traces != nil {
			cfg.Wrap(tracing.WrapperFor(c.cfg.Traces))
		}
		cfg.QPS, cfg.Burst, cfg.Timeout = qps, burst, timeout
		if qps == 0 {
			cfg.QPS = -1
		}
		cfg.ContentType = c.cfg.ContentType
		if cfg.ContentType == "" {
			cfg.ContentType = runtime.ContentTypeProtobuf
		}
		cfg.AcceptContentTypes = cfg.ContentType + "," + runtime.ContentTypeJSON
		return kubernetes.NewForConfig(cfg)
	}
	var err error
	if c.Interface, err = limited(float32(c.cfg.QPS), int(c.cfg.Burst), 0); err != nil {
		return fmt.Errorf("make the API client: %w", err)
	}
	// Who is not known must not use up what the node needs.
	if c.Reviews, err = limited(float32(c.cfg.QPS), int(c.cfg.Burst), reviewTimeout); err != nil {
		return fmt.Errorf("make the API client of reviews: %w", err)
	}
	if c.Heartbeat, err = limited(0, 0, c.cfg.HeartbeatTimeout); err != nil {
		return fmt.Errorf("make the API client of heartbeats: %w", err)
	}
	if c.Events, err = limited(float32(c.cfg.EventQPS), int(c.cfg.EventBurst), 0); err != nil {
		return fmt.Errorf("make the API client of events: %w", err)
	}
	return nil
}

// Run requests the client certificate if there is none, and renews it until ctx
// ends.
func (c *Client) Run(ctx context.Context) error {
	if c.manager == nil {
		<-ctx.Done()
		return nil
	}
	c.manager.Start()
	defer c.manager.Stop()
	select {
	case <-ctx.Done():
		return nil
	case <-c.holder.stored:
	}
	// Not earlier: whoever waits for the file uses it at once.
	switch err := writeKubeconfig(c.cfg.Kubeconfig, c.write); {
	case err == nil:
	case c.usable:
		klog.ErrorS(err, "Could not put the renewed certificate into the kubeconfig; the old one works until it expires", "path", c.cfg.Kubeconfig)
	default:
		return fmt.Errorf("write %s: %w", c.cfg.Kubeconfig, err)
	}
	if !c.cfg.Rotate {
		c.manager.Stop()
	}
	<-ctx.Done()
	return nil
}
