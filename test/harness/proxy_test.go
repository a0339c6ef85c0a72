package harness

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority writes certificates as kubeadm does.
type authority struct {
	t    *testing.T
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.issue("ca", pkix.Name{CommonName: "ca"})
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// issue writes a certificate and its key, and returns both.
func (a *authority) issue(name string, subject pkix.Name) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: subject, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: a.cert == nil, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if a.cert == nil {
		a.cert, a.key = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{".crt": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(a.path(name+file), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	if a.cert == template {
		if a.cert, err = x509.ParseCertificate(der); err != nil {
			a.t.Fatal(err)
		}
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestCallersOfTheAPIProxyAreWhoTheyAre(t *testing.T) {
	a := newAuthority(t)
	serving := a.issue("apiserver", pkix.Name{CommonName: "kube-apiserver"})
	a.issue("front-proxy-client", pkix.Name{CommonName: "front-proxy-client"})
	node := a.issue("node", pkix.Name{CommonName: "system:node:n", Organization: []string{"system:nodes"}})
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)

	api := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		by := "nobody"
		if len(r.TLS.PeerCertificates) > 0 {
			by = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		fmt.Fprintf(w, "%s for %q of %q, %q\n", by, r.Header.Get("X-Remote-User"), r.Header.Get("X-Remote-Group"), r.Header.Get("Authorization"))
		if r.URL.Query().Get("watch") == "true" {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	}))
	api.TLS = &tls.Config{Certificates: []tls.Certificate{serving}, ClientAuth: tls.RequestClientCert}
	api.StartTLS()
	t.Cleanup(api.Close)
	proxy := startAPIProxy(t, a.path, "127.0.0.1", api.Listener.Addr().String())

	client := func(as ...tls.Certificate) *http.Client {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: as}, ForceAttemptHTTP2: true}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport}
	}
	get := func(c *http.Client, token string) (*http.Response, string, error) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+proxy.Endpoint+"/api/v1/pods", nil)
		if err != nil {
			return nil, "", err
		}
		if token != "" {
			r.Header.Set("Authorization", token)
		}
		resp, err := c.Do(r)
		if err != nil {
			return nil, "", err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return resp, string(text), err
	}
	own := client(node)
	if _, text, err := get(own, ""); err != nil || text != `front-proxy-client for "system:node:n" of "system:nodes", ""`+"\n" {
		t.Errorf("by certificate: %q, %v", text, err)
	}
	if _, text, err := get(client(), "Bearer t"); err != nil || text != `nobody for "" of "", "Bearer t"`+"\n" {
		t.Errorf("by token: %q, %v", text, err)
	}

	// Faults are what the API server would say, and a cut ends what runs.
	remove := proxy.On(First(Path("GET", "/pods")), Busy(3))
	if resp, text, err := get(own, ""); err != nil || resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "3" || !strings.Contains(text, `"reason":"TooManyRequests"`) {
		t.Errorf("busy: %v, %q, %v", resp, text, err)
	}
	remove()
	watch := func() (*bufio.Reader, error) {
		resp, err := own.Get("https://" + proxy.Endpoint + "/api/v1/pods?watch=true")
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { resp.Body.Close() })
		return bufio.NewReader(resp.Body), nil
	}
	open, err := watch()
	if err != nil {
		t.Fatal(err)
	}
	if line, err := open.ReadString('\n'); err != nil {
		t.Errorf("watch: %q, %v", line, err)
	}
	release := make(chan struct{})
	proxy.On(func(c Call) bool { return c.Query == "watch=true" }, Silence(release))
	quiet, err := watch()
	if err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 1)
	go func() {
		line, _ := quiet.ReadString('\n')
		said <- line
	}()
	select {
	case line := <-said:
		t.Errorf("a silent watch says %q", line)
	case <-time.After(100 * time.Millisecond):
	}
	close(release)
	if line := <-said; line == "" {
		t.Error("the watch says nothing once it is released")
	}
	if n := proxy.CutEvents(); n != 2 {
		t.Errorf("%d watches were open, want 2", n)
	}
	if rest, err := io.ReadAll(open); len(rest) > 0 {
		t.Errorf("after the cut: %q, %v", rest, err)
	}
	proxy.Clear()
	proxy.On(Path("GET", "/pods"), CutBefore(func() {}))
	if resp, _, err := get(own, ""); err == nil {
		t.Errorf("a call that is cut was answered: %v", resp)
	}
}

func TestPlugInsAreCalledThroughTheirProxy(t *testing.T) {
	real := t.TempDir()
	script := "#!/bin/sh\nread text\necho \"$1 $CNI_COMMAND $text\"\necho complaint >&2\nexit 3\n"
	if err := os.WriteFile(filepath.Join(real, "ours"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	proxy := StartPlugins(t, real, "ours")
	run := func(env string) (out, complaint string, state *os.ProcessState) {
		cmd := exec.Command(filepath.Join(proxy.Endpoint, "ours"), "arg")
		cmd.Env = append(os.Environ(), env)
		cmd.Stdin = strings.NewReader("asked\n")
		var o, e strings.Builder
		cmd.Stdout, cmd.Stderr = &o, &e
		_ = cmd.Run()
		return o.String(), e.String(), cmd.ProcessState
	}
	if out, complaint, state := run("CNI_COMMAND=ADD"); out != "arg ADD asked\n" || complaint != "complaint\n" || state.ExitCode() != 3 {
		t.Errorf("%q, %q, %v", out, complaint, state)
	}
	if calls := proxy.Calls(); len(calls) != 1 || calls[0].String() != "ADD /ours" || !calls[0].Changes() {
		t.Errorf("calls %v", calls)
	}
	proxy.On(About("asked", Path("RUN", "/ours")), Fail(500, "no"))
	if out, _, state := run("CNI_COMMAND="); !strings.Contains(out, `"msg":"no"`) || state.ExitCode() != 1 {
		t.Errorf("%q, %v", out, state)
	}
	proxy.Clear()
	proxy.On(Path("ADD", "/ours"), CutAfter(func() {}))
	if out, _, state := run("CNI_COMMAND=ADD"); out != "" || state.String() != "signal: killed" {
		t.Errorf("one that dies: %q, %v", out, state)
	}
}
