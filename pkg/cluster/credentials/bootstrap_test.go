package credentials

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/mini-kubelet/mini-kubelet/test/testapi"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// signer approves and signs all requests at an API server once it is allowed to.
type signer struct {
	api     *testapi.Server
	key     *ecdsa.PrivateKey
	allowed chan struct{}

	mu    sync.Mutex
	asked []string // "user METHOD path", for nodes and certificate requests
}

// sign issues a certificate for an hour to each request that has none.
func (s *signer) sign() error {
	for _, r := range s.api.CertificateRequests() {
		if len(r.Status.Certificate) > 0 {
			continue
		}
		block, _ := pem.Decode(r.Spec.Request)
		csr, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil {
			return err
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: csr.Subject, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, csr.PublicKey, s.key)
		if err != nil {
			return err
		}
		r.Status.Certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		r.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateApproved, Status: "True"}}
		s.api.Put(r)
	}
	return nil
}

func (s *signer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user := r.Header.Get("Authorization")
	if len(r.TLS.PeerCertificates) > 0 {
		user = r.TLS.PeerCertificates[0].Subject.CommonName
	}
	s.mu.Lock()
	s.asked = append(s.asked, user+" "+r.Method+" "+r.URL.Path)
	s.mu.Unlock()
	s.api.ServeHTTP(w, r)
}

// of returns the requests of a user.
func (s *signer) of(user string) (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.asked {
		if what, ok := strings.CutPrefix(a, user+" "); ok {
			out = append(out, what)
		}
	}
	return out
}

// use runs the client until stop is called.
func use(t *testing.T, cfg Config) (c *Client, stop func()) {
	t.Helper()
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c, testrun.Start(t, c.Run)
}

func TestFromBootstrapTokenToACertificateOfItsOwn(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	api := testapi.New()
	s := &signer{api: api, key: key, allowed: make(chan struct{})}
	api.Before = func(r *http.Request) *metav1.Status {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/certificatesigningrequests") {
			select {
			case <-s.allowed:
			case <-r.Context().Done():
				return nil
			}
			if err := s.sign(); err != nil {
				t.Error(err)
			}
		}
		return nil
	}
	front := httptest.NewUnstartedServer(s)
	front.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	front.StartTLS()
	defer front.Close()

	dir := t.TempDir()
	cfg := Config{
		Kubeconfig: filepath.Join(dir, "kubelet.conf"), Bootstrap: filepath.Join(dir, "bootstrap.conf"), CertDir: filepath.Join(dir, "pki"),
		NodeName: "n1", UserAgent: "test", Rotate: true, ContentType: "application/json", HeartbeatTimeout: time.Minute,
	}
	first := kubeconfigOf(&rest.Config{Host: front.URL, TLSClientConfig: rest.TLSClientConfig{
		CAData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}),
	}}, "")
	first.AuthInfos["default-auth"] = &clientcmdapi.AuthInfo{Token: "b"}
	if err := clientcmd.WriteToFile(*first, cfg.Bootstrap); err != nil {
		t.Fatal(err)
	}

	c, stop := use(t, cfg)
	answered := make(chan error, 1)
	go func() {
		_, err := c.CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{})
		answered <- err
	}()
	soon := time.After(2 * time.Minute)
	for len(s.of("Bearer b")) < 2 { // the request, and the wait for its answer
		select {
		case err := <-answered:
			t.Fatalf("the API was used before there is a certificate: %v", err)
		case <-soon:
			t.Fatalf("no certificate was requested: %v", s.of("Bearer b"))
		case <-time.After(10 * time.Millisecond):
		}
	}
	if _, err := os.Stat(cfg.Kubeconfig); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("kubeconfig before there is a certificate: %v, want none", err)
	}
	close(s.allowed)
	if err := <-answered; !apierrors.IsNotFound(err) {
		t.Fatalf("get node: %v, want the API server's answer", err)
	}
	if got := s.of("system:node:n1"); len(got) == 0 || got[len(got)-1] != "GET /api/v1/nodes/n1" {
		t.Errorf("the node asked %v", got)
	}
	if r := api.CertificateRequests(); len(r) != 1 || r[0].Spec.SignerName != clientSigner {
		t.Errorf("%d certificate requests, want one of the client signer", len(r))
	}
	for range 3000 { // it is written after the certificate came into use
		if _, err = os.Stat(cfg.Kubeconfig); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	stop()

	// The next agent needs neither the token nor another request.
	if err := os.Remove(cfg.Bootstrap); err != nil {
		t.Fatal(err)
	}
	cfg.Bootstrap = ""
	c, stop = use(t, cfg)
	defer stop()
	if _, err := c.Heartbeat.CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("get node after a restart: %v, want the API server's answer", err)
	}
	if n := len(api.CertificateRequests()); n != 1 {
		t.Errorf("%d certificate requests after a restart, want the one", n)
	}
}
