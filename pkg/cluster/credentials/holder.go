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
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
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

// Names in a store after that of its pair; currentName and updatedName are links to pairs.
const (
	currentName = "-current.pem"
	updatedName = "-updated.pem"
)

// lost is what is lost with a damaged pair.
const lost = "The node's certificate and key. Others are requested; a client certificate needs a kubeconfig or bootstrap kubeconfig that works."

// openStore opens client-go's store of a pair, once nothing is in its way: it gives up where
// something is no link that should be one.
func openStore(dir, pair string) (certificate.FileStore, error) {
	if err := tidyStore(dir, pair); err != nil {
		return nil, err
	}
	for _, name := range []string{currentName, updatedName} {
		if err := relink(filepath.Join(dir, pair+name)); err != nil {
			klog.ErrorS(err, "A certificate cannot be replaced by the next one", "path", filepath.Join(dir, pair+name))
		}
	}
	return certificate.NewFileStore(pair, dir, dir, "", "")
}

// tidyStore tidies all that client-go, or a kubeconfig, may read of a pair.
func tidyStore(dir, pair string) error {
	for _, name := range []string{currentName, updatedName, ".crt", ".key"} {
		if err := tidy(filepath.Join(dir, pair+name)); err != nil {
			return err
		}
	}
	return nil
}

// tidy moves aside what is in the place of a file with a certificate or key of ours, or of its
// directory, and could not be read or replaced: those who do open whatever is there. A file
// that is only damaged is replaced by the next one, see forgiving, lasts and relink.
func tidy(path string) error {
	if err := durable.MakeWay(filepath.Dir(path), lost); err != nil && !errors.Is(err, durable.ErrDamaged) {
		return err
	}
	fi, err := os.Stat(path)
	switch {
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ENAMETOOLONG): // a link to nothing
	case err != nil:
		return nil // the store says what is wrong
	case fi.Mode().IsRegular() && fi.Size() <= maxPair:
		return nil
	default:
		err = &fs.PathError{Op: "read", Path: path, Err: safefile.ErrNotRegular}
	}
	if err = durable.MoveAside(path, lost, err); errors.Is(err, durable.ErrDamaged) {
		return nil
	}
	return err
}

// relink puts a link in the place of a pair that is a file, as after a backup that followed the
// link. What is no pair is moved aside.
func relink(path string) error {
	fi, err := os.Lstat(path)
	if err != nil || fi.Mode()&fs.ModeSymlink != 0 {
		return nil // the store says what is wrong
	}
	var text []byte
	err = durable.Load(path, lost, func(b []byte) error {
		text = b
		_, err := tls.X509KeyPair(b, b)
		return err
	})
	if errors.Is(err, durable.ErrDamaged) {
		return nil
	}
	file := strings.TrimSuffix(path, ".pem") + time.Now().UTC().Format("-2006-01-02-15-04-05.000.pem")
	link := file + ".link"
	if err == nil {
		err = durable.Write(file, text)
	}
	if err == nil {
		err = os.Symlink(filepath.Base(file), link)
	}
	if err == nil {
		err = os.Rename(link, path) // at no moment is there no pair
	}
	return err
}
