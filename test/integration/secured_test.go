package integration

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// certificates writes NAME-ca.crt, NAME.crt and NAME.key: a CA, and a client certificate by it.
func certificates(t *testing.T, dir, name string) {
	t.Helper()
	write := func(file, kind string, der []byte) {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	caKey, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	key, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name + "-ca"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	client := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	caDER, err1 := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	der, err2 := x509.CreateCertificate(rand.Reader, client, ca, &key.PublicKey, caKey)
	keyDER, err3 := x509.MarshalECPrivateKey(key)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	write(name+"-ca.crt", "CERTIFICATE", caDER)
	write(name+".crt", "CERTIFICATE", der)
	write(name+".key", "EC PRIVATE KEY", keyDER)
}

// TestTheSecuredPortStandalone has clients with and without certificates ask a node without an API
// server, whose serving certificate they verify.
func TestTheSecuredPortStandalone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificates(t, dir, "admin")
	certificates(t, dir, "stranger")
	_, port, err := net.SplitHostPort(harness.FreePort(t))
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	authentication := func(anonymous bool) map[string]any {
		return map[string]any{"x509": map[string]any{"clientCAFile": filepath.Join(dir, "admin-ca.crt")}, "anonymous": map[string]any{"enabled": anonymous}}
	}
	a := harness.StartAgent(t, harness.AgentConfig{Config: map[string]any{
		"port": number, "authentication": authentication(false), "authorization": map[string]any{"mode": "AlwaysAllow"}, "tlsMinVersion": "VersionTLS13",
	}})
	a.Write("web.yaml", harness.Pod("web", "echo hello; trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"))
	web := a.WaitRunning("web")
	pki := filepath.Join(a.Dir, "root", "pki")
	as := func(name string, args ...string) (said string, code int) {
		t.Helper()
		network := []string{args[0], "--server", "https://" + net.JoinHostPort(web.Status.HostIP, port), "--certificate-authority", filepath.Join(pki, "kubelet.crt")}
		if name != "" {
			network = append(network, "--client-certificate", filepath.Join(dir, name+".crt"), "--client-key", filepath.Join(dir, name+".key"))
		}
		stdout, stderr, err := a.Run(append(network, args[1:]...)...)
		var exited *exec.ExitError
		if errors.As(err, &exited) {
			code = exited.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		return stdout + stderr, code
	}
	want := func(name, text string, code int, args ...string) {
		t.Helper()
		if said, got := as(name, args...); got != code || !strings.Contains(said, text) {
			t.Errorf("%q, %v: exit code %d, %q; want %d, %q", name, args, got, said, code, text)
		}
	}
	pair := func() []byte {
		t.Helper()
		fi, err1 := os.Stat(filepath.Join(pki, "kubelet.key"))
		cert, err2 := os.ReadFile(filepath.Join(pki, "kubelet.crt"))
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if fi.Mode().Perm() != 0o600 {
			t.Errorf("mode of the key: %v", fi.Mode())
		}
		return cert
	}
	restart := func(anonymous bool, mode string) {
		t.Helper()
		a.Interrupt()
		a.SetConfig("authentication", authentication(anonymous))
		a.SetConfig("authorization", map[string]any{"mode": mode})
		a.Start()
		a.WaitRunning("web")
	}

	made := pair()
	harness.Eventually(t, "the container has spoken", harness.Patience, func() error {
		if said, _ := as("admin", "logs", "web"); said == "" {
			return errors.New("not yet")
		}
		return nil
	}, a.Explain)
	want("admin", "hello", 0, "logs", "web")
	want("admin", "command terminated with exit code 9", 9, "exec", "web", "--", "sh", "-c", "exit 9")
	want("admin", "Pod/"+web.Name, 0, "events")
	for _, name := range []string{"", "stranger"} {
		want(name, "does not know you", 1, "logs", "web")
		want(name, "does not know you", 1, "exec", "web", "--", "true")
	}
	restart(false, "Webhook")
	if !bytes.Equal(made, pair()) {
		t.Error("the serving certificate was made anew at a restart")
	}
	want("admin", "authorization.mode: AlwaysAllow in the node's configuration", 1, "logs", "web")
	want("", "does not know you", 1, "logs", "web")
	restart(true, "Webhook")
	want("", "does not allow that", 1, "logs", "web")
	restart(true, "AlwaysAllow")
	want("", "hello", 0, "logs", "web")
	if !strings.Contains(a.Log(), "ANYBODY") {
		t.Error("nothing is said of a port that is open to everybody")
	}
}
