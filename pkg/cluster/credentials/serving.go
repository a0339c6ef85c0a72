package credentials

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/certificate"
	"k8s.io/klog/v2"
)

// ServingConfig says where the serving certificate comes from.
type ServingConfig struct {
	CertFile, KeyFile string // given by the operator, and read again when they change
	// Client, with Bootstrap, requests it from the cluster (serverTLSBootstrap).
	Client    kubernetes.Interface
	Bootstrap bool
	CertDir   string
	NodeName  string
	Addresses func() []v1.NodeAddress // of the node, for the request
	// Metrics is where the certificate's own are registered; nil: nowhere.
	Metrics prometheus.Registerer
}

// Serving is the certificate that the agent shows on port 10250.
type Serving struct {
	run func(context.Context) error
	get func() *tls.Certificate
}

// NewServing reads the operator's certificate, prepares the request for one, or
// makes a self-signed one, as the kubelet does.
func NewServing(cfg ServingConfig) (*Serving, error) {
	s, err := newServing(cfg)
	if err != nil || cfg.Metrics == nil {
		return s, err
	}
	const help = "serving certificate. The value is in seconds until certificate expiry (negative if already expired)"
	if err := cfg.Metrics.Register(ttl("server", help, func() *tls.Certificate { return s.get() })); err != nil {
		return nil, fmt.Errorf("register the metrics of the serving certificate: %w", err)
	}
	return s, nil
}

func newServing(cfg ServingConfig) (*Serving, error) {
	switch {
	case cfg.CertFile != "":
		return servingFromFiles(cfg.CertFile, cfg.KeyFile)
	case cfg.Bootstrap && cfg.Client != nil:
		return servingFromCluster(cfg)
	}
	return newSelfSigned(cfg, selfSignedLook)
}

// Certificate is called by a TLS server at each handshake.
func (s *Serving) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := s.get(); c != nil {
		return c, nil
	}
	return nil, errors.New("no serving certificate yet: the node's request waits to be approved and signed")
}

// Run keeps the certificate up to date until ctx ends.
func (s *Serving) Run(ctx context.Context) error { return s.run(ctx) }

func servingFromCluster(cfg ServingConfig) (*Serving, error) {
	store, err := openStore(cfg.CertDir, serverPair)
	if err != nil {
		return nil, fmt.Errorf("open the store of serving certificates: %w", err)
	}
	failures := renewErrors("kubelet_server_expiration_renew_errors")
	if cfg.Metrics != nil {
		if err := cfg.Metrics.Register(failures); err != nil {
			return nil, fmt.Errorf("register the metrics of the serving certificate: %w", err)
		}
	}
	manager, err := certificate.NewManager(&certificate.Config{
		ClientsetFn:      func(*tls.Certificate) (kubernetes.Interface, error) { return cfg.Client, nil },
		GetTemplate:      func() *x509.CertificateRequest { return servingTemplate(cfg.NodeName, cfg.Addresses()) },
		SignerName:       servingSigner,
		GetUsages:        certificate.DefaultKubeletServingGetUsages,
		CertificateStore: forgiving{store},
		Name:             "kubelet-serving",

		CertificateRenewFailure: failures,
	})
	if err != nil {
		return nil, fmt.Errorf("manage the serving certificate: %w", err)
	}
	return &Serving{
		get: manager.Current,
		run: func(ctx context.Context) error {
			manager.Start()
			<-ctx.Done()
			manager.Stop()
			return nil
		},
	}, nil
}

// servingTemplate is the request for a serving certificate; nil, which makes the
// manager wait, until the node has an address.
func servingTemplate(node string, addresses []v1.NodeAddress) *x509.CertificateRequest {
	r := &x509.CertificateRequest{Subject: subject(node)}
	for _, a := range addresses {
		ip := net.ParseIP(a.Address)
		switch {
		case a.Address == "":
		case ip != nil:
			r.IPAddresses = append(r.IPAddresses, ip)
		case a.Type == v1.NodeHostName || a.Type == v1.NodeInternalDNS || a.Type == v1.NodeExternalDNS:
			r.DNSNames = append(r.DNSNames, a.Address)
		}
	}
	if len(r.IPAddresses) == 0 {
		return nil
	}
	// A fixed order, so that the manager sees a change only if there is one.
	slices.Sort(r.DNSNames)
	r.DNSNames = slices.Compact(r.DNSNames)
	slices.SortFunc(r.IPAddresses, func(a, b net.IP) int { return slices.Compare(a.To16(), b.To16()) })
	r.IPAddresses = slices.CompactFunc(r.IPAddresses, net.IP.Equal)
	return r
}

func servingFromFiles(certFile, keyFile string) (*Serving, error) {
	content, err := dynamiccertificates.NewDynamicServingContentFromFiles("serving certificate", certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("read the serving certificate: %w", err)
	}
	f := &fileCertificate{content: content}
	f.Enqueue()
	if f.current.Load() == nil {
		return nil, fmt.Errorf("read the serving certificate: %s and %s are not a pair", certFile, keyFile)
	}
	content.AddListener(f)
	return &Serving{
		get: f.current.Load,
		run: func(ctx context.Context) error { content.Run(ctx, 1); return nil },
	}, nil
}

// fileCertificate parses the files' content when it changes.
type fileCertificate struct {
	content *dynamiccertificates.DynamicCertKeyPairContent
	current atomic.Pointer[tls.Certificate]
}

// Enqueue implements dynamiccertificates.Listener.
func (f *fileCertificate) Enqueue() {
	cert, err := tls.X509KeyPair(f.content.CurrentCertKeyContent())
	if err != nil {
		klog.ErrorS(err, "The new serving certificate cannot be used, keeping the previous one")
		return
	}
	f.current.Store(&cert)
}
