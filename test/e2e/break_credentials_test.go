package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mini-kubelet/mini-kubelet/test/controlplane"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// pairFor makes a self-signed pair, valid until then.
func pairFor(t *testing.T, name string, until time.Time) (cert, both []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name, Organization: []string{"system:nodes"}},
		NotBefore: until.Add(-time.Hour), NotAfter: until, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return cert, append(cert, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})...)
}

// TestBadCredentialsAreToldPlainly starts agents with credentials that cannot work.
// Those that only time or somebody else can fix leave static pods running and are
// tried again; the others end the agent with the file's name and the cause.
func TestBadCredentialsAreToldPlainly(t *testing.T) {
	t.Parallel()
	c := harness.SharedCluster(t)
	good := func(t *testing.T, n *harness.Node) string {
		text, err := os.ReadFile(filepath.Join(n.Dir, "bootstrap.conf"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	put := func(t *testing.T, path, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	bootstrap := func(change func(t *testing.T, n *harness.Node, text string) string) func(*testing.T, *harness.Node) {
		return func(t *testing.T, n *harness.Node) {
			put(t, filepath.Join(n.Dir, "bootstrap.conf"), change(t, n, good(t, n)))
		}
	}
	// own puts a pair into the agent's store, and a kubeconfig that names it.
	own := func(t *testing.T, n *harness.Node, pair string) {
		put(t, filepath.Join(filepath.Dir(n.ClientPair()), "kubelet-client-old.pem"), pair)
		if err := os.Symlink("kubelet-client-old.pem", n.ClientPair()); err != nil {
			t.Fatal(err)
		}
		put(t, n.Kubeconfig(), strings.Replace(good(t, n), "token: "+controlplane.Token, fmt.Sprintf("client-certificate: %s\n    client-key: %s", n.ClientPair(), n.ClientPair()), 1))
	}
	tests := map[string]struct {
		spoil func(*testing.T, *harness.Node)
		says  []string
		joins bool // it works all the same
		exits bool
	}{
		"wrong token": {spoil: bootstrap(func(_ *testing.T, _ *harness.Node, text string) string {
			return strings.Replace(text, controlplane.Token, "abcdef.fedcba9876543210", 1)
		}), says: []string{"Unauthorized"}},
		"wrong CA": {spoil: bootstrap(func(t *testing.T, n *harness.Node, text string) string {
			ca, _ := pairFor(t, "somebody", time.Now().Add(time.Hour))
			put(t, filepath.Join(n.Dir, "ca.crt"), string(ca))
			return strings.Replace(text, c.PKI("ca.crt"), filepath.Join(n.Dir, "ca.crt"), 1)
		}), says: []string{"certificate signed by unknown authority"}},
		"unreachable server": {spoil: bootstrap(func(_ *testing.T, _ *harness.Node, text string) string {
			return strings.Replace(text, c.Endpoint(), "127.0.0.1:1", 1)
		}), says: []string{"127.0.0.1:1: connect: connection refused"}},
		"no CA file": {spoil: bootstrap(func(_ *testing.T, _ *harness.Node, text string) string {
			return strings.Replace(text, c.PKI("ca.crt"), "/nowhere/ca.crt", 1)
		}), says: []string{"--bootstrap-kubeconfig", "/nowhere/ca.crt"}, exits: true},
		"empty bootstrap": {spoil: bootstrap(func(*testing.T, *harness.Node, string) string { return "" }), says: []string{"--bootstrap-kubeconfig", "bootstrap.conf"}, exits: true},
		"garbage":         {spoil: bootstrap(func(*testing.T, *harness.Node, string) string { return "\x00\xff{{" }), says: []string{"--bootstrap-kubeconfig", "bootstrap.conf"}, exits: true},
		"no bootstrap": {spoil: func(t *testing.T, n *harness.Node) {
			if err := os.Remove(filepath.Join(n.Dir, "bootstrap.conf")); err != nil {
				t.Fatal(err)
			}
		}, says: []string{"--bootstrap-kubeconfig", "bootstrap.conf", "no such file"}, exits: true},
		"kubeconfig is a directory": {spoil: func(t *testing.T, n *harness.Node) {
			if err := os.Mkdir(n.Kubeconfig(), 0o755); err != nil {
				t.Fatal(err)
			}
		}, says: []string{"kubelet.conf", "directory"}, exits: true},
		"kubeconfig is empty":  {spoil: func(t *testing.T, n *harness.Node) { put(t, n.Kubeconfig(), "") }, joins: true},
		"kubeconfig of others": {spoil: func(t *testing.T, n *harness.Node) { put(t, n.Kubeconfig(), "kind: Pod\napiVersion: v1\n") }, joins: true},
		"certificate directory is a file": {spoil: func(t *testing.T, n *harness.Node) {
			put(t, filepath.Join(n.Dir, "root", "pki"), "")
		}, says: []string{"root/pki"}, joins: true},
		"expired certificate": {spoil: func(t *testing.T, n *harness.Node) {
			_, both := pairFor(t, "system:node:"+n.Node(), time.Now().Add(-time.Minute))
			own(t, n, string(both))
		}, joins: true},
		"empty certificate":         {spoil: func(t *testing.T, n *harness.Node) { own(t, n, "") }, says: []string{"kubelet-client-current.pem"}, joins: true},
		"garbage for a certificate": {spoil: func(t *testing.T, n *harness.Node) { own(t, n, "garbage") }, says: []string{"kubelet-client-current.pem"}, joins: true},
		"the certificate is gone": {spoil: func(t *testing.T, n *harness.Node) {
			own(t, n, "")
			if err := os.Remove(filepath.Join(filepath.Dir(n.ClientPair()), "kubelet-client-old.pem")); err != nil {
				t.Fatal(err)
			}
		}, joins: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := harness.NewNode(t, c, harness.AgentConfig{Args: []string{"--v", "0"}})
			tt.spoil(t, n)
			n.Write("s.yaml", harness.Pod("s", "", quick))
			n.Launch()
			if tt.exits {
				if err := n.WaitExit(); err == nil {
					t.Error("the agent ended well")
				}
			} else if n.WaitRunning("s"); tt.joins {
				n.WaitReady()
			}
			harness.Eventually(t, "the log tells the cause", harness.Patience, func() error {
				for _, want := range tt.says {
					if !strings.Contains(n.Log(), want) {
						return fmt.Errorf("nothing of %q", want)
					}
				}
				return nil
			}, n.Explain)
			if tt.joins || tt.exits {
				return
			}
			// It is tried again, but not all the time.
			lines := strings.Count(n.Log(), "\n")
			time.Sleep(10 * time.Second)
			if more := strings.Count(n.Log(), "\n") - lines; more > 20 {
				t.Errorf("%d lines were logged in ten seconds:\n%s", more, n.Log())
			}
		})
	}
}
