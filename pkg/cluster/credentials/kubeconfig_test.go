package credentials

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/certificate"
)

// newPair makes a self-signed client certificate that expires after that time.
func newPair(t *testing.T, name string, ends time.Duration) (certPEM, keyPEM []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(ends),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
}

func commonName(t *testing.T, c *tls.Certificate) string {
	t.Helper()
	if c == nil {
		return ""
	}
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf.Subject.CommonName
}

// kubeconfig writes a user's kubeconfig for a server.
func kubeconfig(t *testing.T, path, server string, user clientcmdapi.AuthInfo) {
	t.Helper()
	c := kubeconfigOf(&rest.Config{Host: server}, "")
	c.AuthInfos["default-auth"] = &user
	if err := clientcmd.WriteToFile(*c, path); err != nil {
		t.Fatal(err)
	}
}

func TestWhichKubeconfigIsUsed(t *testing.T) {
	good, goodKey := newPair(t, "own", time.Hour)
	old, oldKey := newPair(t, "expired", -time.Hour)
	valid := &clientcmdapi.AuthInfo{ClientCertificateData: good, ClientKeyData: goodKey}
	expired := &clientcmdapi.AuthInfo{ClientCertificateData: old, ClientKeyData: oldKey}
	token := &clientcmdapi.AuthInfo{Token: "t"}
	tests := []struct {
		name      string
		own       *clientcmdapi.AuthInfo
		garbage   bool // in place of own
		bootstrap bool
		rotate    bool
		stored    time.Duration // when the certificate in the store expires; 0: none

		fails   bool
		host    string
		managed bool
		uses    string // common name of the certificate at the beginning
	}{
		{name: "neither", fails: true},
		{name: "none yet", bootstrap: true, rotate: true, host: "bootstrap.test", managed: true},
		{name: "none yet, and one that is not to be renewed", bootstrap: true, host: "bootstrap.test", managed: true},
		{name: "kubeconfig is lost, its certificate is not", bootstrap: true, rotate: true, stored: time.Hour, host: "bootstrap.test", managed: true, uses: "stored"},
		{name: "the stored certificate has expired", bootstrap: true, rotate: true, stored: -time.Hour, host: "bootstrap.test", managed: true},
		{name: "expired", own: expired, bootstrap: true, rotate: true, host: "bootstrap.test", managed: true},
		{name: "expired, also where it is not to be renewed", own: expired, bootstrap: true, host: "bootstrap.test", managed: true},
		{name: "expired without bootstrap", own: expired, rotate: true, fails: true},
		{name: "valid, as it is", own: valid, host: "own.test"},
		{name: "valid, to be renewed", own: valid, rotate: true, host: "own.test", managed: true, uses: "own"},
		{name: "valid, beside a bootstrap kubeconfig", own: valid, bootstrap: true, rotate: true, host: "own.test", managed: true, uses: "own"},
		{name: "valid, and renewed before", own: valid, bootstrap: true, rotate: true, stored: time.Hour, host: "own.test", managed: true, uses: "stored"},
		{name: "no certificate but a token", own: token, bootstrap: true, rotate: true, host: "own.test"},
		{name: "unreadable", garbage: true, bootstrap: true, rotate: true, host: "bootstrap.test", managed: true},
		{name: "unreadable without bootstrap", garbage: true, fails: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			cfg := Config{Kubeconfig: filepath.Join(dir, "kubelet.conf"), CertDir: filepath.Join(dir, "pki"), NodeName: "n1", Rotate: tt.rotate}
			if tt.own != nil {
				kubeconfig(t, cfg.Kubeconfig, "https://own.test", *tt.own)
			}
			if tt.garbage {
				if err := os.WriteFile(cfg.Kubeconfig, []byte("{not yaml"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if tt.bootstrap {
				cfg.Bootstrap = filepath.Join(dir, "bootstrap.conf")
				kubeconfig(t, cfg.Bootstrap, "https://bootstrap.test", clientcmdapi.AuthInfo{Token: "b"})
			}
			if tt.stored != 0 {
				store, err := certificate.NewFileStore(clientPair, cfg.CertDir, cfg.CertDir, "", "")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := store.Update(newPair(t, "stored", tt.stored)); err != nil {
					t.Fatal(err)
				}
			}
			c, err := NewClient(cfg)
			if (err != nil) != tt.fails {
				t.Fatalf("error %v, want one: %v", err, tt.fails)
			}
			if tt.fails {
				return
			}
			if got := c.CoreV1().RESTClient().Get().URL().Host; got != tt.host {
				t.Errorf("server = %s, want %s", got, tt.host)
			}
			if (c.manager != nil) != tt.managed {
				t.Errorf("certificate managed: %v, want %v", c.manager != nil, tt.managed)
			}
			if c.holder != nil {
				if got := commonName(t, c.holder.Current()); got != tt.uses {
					t.Errorf("certificate at the beginning = %q, want %q", got, tt.uses)
				}
			}
		})
	}
}

func TestWriteKubeconfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "kubelet.conf")
	base := &rest.Config{Host: "https://api.test:6443", TLSClientConfig: rest.TLSClientConfig{CAData: []byte("ca")}}
	write := func(c *clientcmdapi.Config) os.FileInfo {
		t.Helper()
		if err := writeKubeconfig(path, c); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	first := write(kubeconfigOf(base, "/pki/current.pem"))
	if first.Mode().Perm() != 0o600 {
		t.Errorf("mode = %v, want 0600", first.Mode())
	}
	if again := write(kubeconfigOf(base, "/pki/current.pem")); !os.SameFile(first, again) {
		t.Error("the same was written again")
	}
	back, err := clientcmd.LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	user, cluster := back.AuthInfos["default-auth"], back.Clusters["default-cluster"]
	if user == nil || user.ClientCertificate != "/pki/current.pem" || user.ClientKey != "/pki/current.pem" || len(user.ClientKeyData) != 0 || user.Token != "" {
		t.Errorf("user = %+v, want the certificate's path and nothing secret", user)
	}
	if cluster == nil || cluster.Server != "https://api.test:6443" || string(cluster.CertificateAuthorityData) != "ca" {
		t.Errorf("cluster = %+v", cluster)
	}
	if moved := write(kubeconfigOf(base, "/pki2/current.pem")); os.SameFile(first, moved) {
		t.Error("a certificate at another path was not written")
	}
	second, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	base.Host = "https://other.test"
	if other := write(kubeconfigOf(base, "/pki2/current.pem")); os.SameFile(second, other) {
		t.Error("another server was not written")
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".kubeconfig-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := os.WriteFile(path, []byte("{not yaml"), 0o644); err != nil {
		t.Fatal(err)
	}
	if mended := write(kubeconfigOf(base, "/pki2/current.pem")); mended.Mode().Perm() != 0o600 {
		t.Errorf("mode of a file that was unreadable = %v, want 0600", mended.Mode())
	}
}

func TestKubeconfigThatIsWrittenNamesTheSameServer(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "bootstrap.conf")
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), []byte("ca"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := clientcmdapi.Cluster{
		Server: "https://api.test/prefix", CertificateAuthority: "ca.crt", TLSServerName: "kubernetes", ProxyURL: "http://proxy.test:3128",
	}
	file := kubeconfigOf(&rest.Config{}, "")
	file.Clusters["default-cluster"] = &want
	file.AuthInfos["default-auth"] = &clientcmdapi.AuthInfo{Token: "secret"}
	if err := clientcmd.WriteToFile(*file, path); err != nil {
		t.Fatal(err)
	}
	base, err := load(path)
	if err != nil {
		t.Fatal(err)
	}
	made := kubeconfigOf(base, "/pki/current.pem")
	got := made.Clusters["default-cluster"]
	if got.Server != want.Server || got.CertificateAuthority != filepath.Join(dir, "ca.crt") || got.TLSServerName != want.TLSServerName || got.ProxyURL != want.ProxyURL {
		t.Errorf("cluster = %+v, want %+v", got, want)
	}
	if user := made.AuthInfos["default-auth"]; user.Token != "" {
		t.Error("the bootstrap token was taken over")
	}
}
