package harness

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/mini-kubelet/mini-kubelet/test/controlplane"
)

// StartAPIProxy starts a proxy to the cluster's API server that ends with the test. Callers
// are to the API server who they are to the proxy: it presents their tokens as they are, and
// vouches for those with a certificate by the cluster's front-proxy certificate.
func StartAPIProxy(t T, c *Cluster) *Proxy {
	t.Helper()
	return startAPIProxy(t, c.PKI, controlplane.HostAddress(), c.Endpoint())
}

// startAPIProxy serves at an address what is at endpoint, with the files of a kubeadm's pki.
func startAPIProxy(t T, pki func(name string) string, address, endpoint string) *Proxy {
	t.Helper()
	serving, err := tls.LoadX509KeyPair(pki("apiserver.crt"), pki("apiserver.key"))
	if err != nil {
		t.Fatalf("%v", err)
	}
	front, err := tls.LoadX509KeyPair(pki("front-proxy-client.crt"), pki("front-proxy-client.key"))
	if err != nil {
		t.Fatalf("%v", err)
	}
	pem, err := os.ReadFile(pki("ca.crt"))
	if err != nil {
		t.Fatalf("%v", err)
	}
	ca := x509.NewCertPool()
	ca.AppendCertsFromPEM(pem)
	upstream := func(as ...tls.Certificate) http.Handler {
		return reverse(t, &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca, Certificates: as}, ForceAttemptHTTP2: true}, "https", endpoint)
	}
	vouched, plain := upstream(front), upstream()
	p := &Proxy{forward: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) == 0 {
			plain.ServeHTTP(w, r)
			return
		}
		who := r.TLS.PeerCertificates[0].Subject
		r.Header.Set("X-Remote-User", who.CommonName)
		r.Header["X-Remote-Group"] = who.Organization
		vouched.ServeHTTP(w, r)
	})}
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatalf("%v", err)
	}
	p.Endpoint = l.Addr().String()
	p.serveAt(t, &http.Server{TLSConfig: &tls.Config{
		Certificates: []tls.Certificate{serving}, ClientCAs: ca, ClientAuth: tls.VerifyClientCertIfGiven, NextProtos: []string{"h2", "http/1.1"},
	}}, l)
	return p
}

// NewNodeThrough prepares a node that reaches the API server through a proxy.
func NewNodeThrough(t T, c *Cluster, p *Proxy, cfg AgentConfig) *Node {
	t.Helper()
	n := NewNode(t, c, cfg)
	file := filepath.Join(n.Dir, "bootstrap.conf")
	text, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, []byte(strings.Replace(string(text), c.Endpoint(), p.Endpoint, 1)), 0o600)
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
	return n
}
