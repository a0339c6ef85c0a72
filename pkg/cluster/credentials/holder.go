package credentials

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	certificates "k8s.io/api/certificates/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/certificate"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/safefile"
)

// Names of the key pairs in the certificate directory, and who signs them.
const (
	clientPair    = "kubelet-client"
	serverPair    = "kubelet-server"
	clientSigner  = certificates.KubeAPIServerClientKubeletSignerName
	servingSigner = certificates.KubeletServingSignerName
)

// holder is the certificate store of client-go, with the current certificate at
// hand; it signals when the first one is there.
type holder struct {
	certificate.Store
	current atomic.Pointer[tls.Certificate]
	once    sync.Once
	stored  chan struct{} // closed once a certificate is in the store
	used    sync.Once
	usable  chan struct{} // closed once there is any certificate
}

func newHolder(store certificate.Store) *holder {
	h := &holder{Store: store, stored: make(chan struct{}), usable: make(chan struct{})}
	if cert, err := store.Current(); err == nil && unexpired(cert) {
		h.hold(cert)
		h.once.Do(func() { close(h.stored) })
	}
	return h
}

// unexpired reports whether a certificate can still be used. An expired one is no
// better than none: requests wait for its successor instead of being refused.
func unexpired(cert *tls.Certificate) bool {
	leaf := cert.Leaf
	if leaf == nil {
		var err error
		if leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
			return false
		}
	}
	return time.Now().Before(leaf.NotAfter)
}

// Current is the certificate to use now, nil before there is one.
func (h *holder) Current() *tls.Certificate { return h.current.Load() }

// Update implements certificate.Store for the manager.
func (h *holder) Update(cert, key []byte) (*tls.Certificate, error) {
	c, err := h.Store.Update(cert, key)
	if err != nil {
		return nil, err
	}
	h.hold(c)
	h.once.Do(func() { close(h.stored) })
	return c, nil
}

func (h *holder) hold(cert *tls.Certificate) {
	h.current.Store(cert)
	h.used.Do(func() { close(h.usable) })
}

// use holds a certificate that is not in the store.
func (h *holder) use(certPEM, keyPEM []byte) error {
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return fmt.Errorf("read the client certificate: %w", err)
	}
	h.hold(&cert)
	return nil
}

// storeOf turns a holder into what the manager wants: its Current returns an error.
type storeOf struct{ *holder }

func (s storeOf) Current() (*tls.Certificate, error) { return forgiving{s.Store}.Current() }

// forgiving is a store that treats a pair which cannot be read, as after a power
// failure, as missing: the manager would give up, although all it needs is a new one.
type forgiving struct{ certificate.Store }

func (s forgiving) Current() (*tls.Certificate, error) {
	cert, err := s.Store.Current()
	if none := (*certificate.NoCertKeyError)(nil); err != nil && !errors.As(err, &none) {
		klog.ErrorS(err, "The stored certificate cannot be used, requesting another")
		lost := certificate.NoCertKeyError(err.Error())
		return nil, &lost
	}
	return cert, err
}

// requester makes the client that requests certificates: the node's own while it
// has a certificate, else the identity of the bootstrap kubeconfig.
func (c *Client) requester(first *rest.Config) certificate.ClientsetFunc {
	return func(current *tls.Certificate) (kubernetes.Interface, error) {
		if current != nil && c.Interface != nil {
			return c.Interface, nil
		}
		cfg := rest.CopyConfig(first)
		cfg.UserAgent = c.cfg.UserAgent
		return kubernetes.NewForConfig(cfg)
	}
}

func clientTemplate(node string) *x509.CertificateRequest {
	return &x509.CertificateRequest{Subject: subject(node)}
}

// subject is the name by which the Node authorizer knows a node.
func subject(node string) pkix.Name {
	return pkix.Name{CommonName: "system:node:" + node, Organization: []string{"system:nodes"}}
}

// maxPair is the largest file with a certificate and its key, in bytes.
const maxPair = 1 << 20

// currentPair is the link to the current pair of a store.
func currentPair(dir, pair string) string { return filepath.Join(dir, pair+"-current.pem") }

// tidy moves aside what is in the place of a file with a certificate or key of ours and could
// not be read or replaced: those who do open whatever is there. One that is only damaged is
// replaced by the next one, see forgiving and lasts. So is what is in the place of its directory.
func tidy(path string) error {
	const lost = "The node's certificate and key. Others are requested; a client certificate needs a kubeconfig or bootstrap kubeconfig that works."
	if err := durable.MakeWay(filepath.Dir(path), lost); err != nil && !errors.Is(err, durable.ErrDamaged) {
		return err
	}
	fi, err := os.Stat(path)
	if err != nil || fi.Mode().IsRegular() && fi.Size() <= maxPair {
		return nil // the store says what is wrong
	}
	err = durable.MoveAside(path, lost, &fs.PathError{Op: "read", Path: path, Err: safefile.ErrNotRegular})
	if errors.Is(err, durable.ErrDamaged) {
		return nil
	}
	return err
}
