package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// authority is a CA of this test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{}
	a.cert, a.key = issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil)
	return a
}

func issue(t *testing.T, template *x509.Certificate, by *authority) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if by == nil {
		by = &authority{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, &key.PublicKey, by.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func (a *authority) write(t *testing.T, file string) {
	t.Helper()
	if err := os.WriteFile(file+".new", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

func (a *authority) client(t *testing.T, name string) *tls.Certificate {
	t.Helper()
	cert, key := issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name, Organization: []string{"team"}}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, a)
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// apiServer knows the token "good" as user bob, and permits everything to users in
// allowed; it counts the questions.
func apiServer(t *testing.T, allowed ...string) (client kubernetes.Interface, reviews, access *atomic.Int32) {
	t.Helper()
	reviews, access = new(atomic.Int32), new(atomic.Int32)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /apis/authentication.k8s.io/v1/tokenreviews", func(w http.ResponseWriter, r *http.Request) {
		reviews.Add(1)
		var review authenticationv1.TokenReview
		decode(t, r, &review)
		if review.Spec.Token == "good" {
			review.Status = authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{Username: "bob"}}
		}
		writeJSON(w, r, &review)
	})
	mux.HandleFunc("POST /apis/authorization.k8s.io/v1/subjectaccessreviews", func(w http.ResponseWriter, r *http.Request) {
		access.Add(1)
		var review authorizationv1.SubjectAccessReview
		decode(t, r, &review)
		about := review.Spec.ResourceAttributes
		review.Status.Allowed = about != nil && about.Resource == "nodes" && about.Name == "n1" && about.Verb == "get" && slices.Contains(allowed, review.Spec.User)
		writeJSON(w, r, &review)
	})
	ts := httptest.NewServer(mux)
	t.Cleanup(ts.Close)
	client, err := kubernetes.NewForConfig(&rest.Config{Host: ts.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}})
	if err != nil {
		t.Fatal(err)
	}
	return client, reviews, access
}

func decode(t *testing.T, r *http.Request, into any) {
	if err := json.NewDecoder(r.Body).Decode(into); err != nil {
		t.Error(err)
	}
}

func configured(mode kubeletconfig.KubeletAuthorizationMode, anonymous, tokens bool, ca string) AuthConfig {
	ttl := metav1.Duration{Duration: time.Minute}
	return AuthConfig{
		Authentication: kubeletconfig.KubeletAuthentication{
			X509:      kubeletconfig.KubeletX509Authentication{ClientCAFile: ca},
			Webhook:   kubeletconfig.KubeletWebhookAuthentication{Enabled: ptr.To(tokens), CacheTTL: ttl},
			Anonymous: kubeletconfig.KubeletAnonymousAuthentication{Enabled: ptr.To(anonymous)},
		},
		Authorization: kubeletconfig.KubeletAuthorization{
			Mode: mode, Webhook: kubeletconfig.KubeletWebhookAuthorization{CacheAuthorizedTTL: ttl, CacheUnauthorizedTTL: ttl},
		},
	}
}

// visit asks a kubelet API for its pods.
func visit(t *testing.T, base string, trusted *http.Client, cert *tls.Certificate, token string) int {
	t.Helper()
	transport := trusted.Transport.(*http.Transport).Clone()
	defer transport.CloseIdleConnections()
	if cert != nil {
		transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	req, err := http.NewRequestWithContext(t.Context(), "GET", base+"/pods", nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestWhoMayUseTheAPI(t *testing.T) {
	const (
		webhook = kubeletconfig.KubeletAuthorizationModeWebhook
		always  = kubeletconfig.KubeletAuthorizationModeAlwaysAllow
	)
	ca, other := newAuthority(t, "ours"), newAuthority(t, "theirs")
	file := filepath.Join(t.TempDir(), "ca.crt")
	ca.write(t, file)
	alice, mallory, carol := ca.client(t, "alice"), other.client(t, "alice"), ca.client(t, "carol")
	var standalone kubernetes.Interface
	client, _, _ := apiServer(t, "alice", "bob")
	open, _, _ := apiServer(t, "system:anonymous")
	tests := []struct {
		name   string
		client kubernetes.Interface
		cfg    AuthConfig
		cert   *tls.Certificate
		token  string
		code   int
	}{
		{"a certificate of the CA", client, configured(webhook, false, true, file), alice, "", 200},
		{"a certificate of the CA whose owner may not", client, configured(webhook, false, true, file), carol, "", 403},
		{"a certificate of another CA", client, configured(webhook, false, true, file), mallory, "", 401},
		{"a certificate without a CA", client, configured(webhook, false, true, ""), alice, "", 401},
		{"a token", client, configured(webhook, false, true, file), nil, "good", 200},
		{"a wrong token", client, configured(webhook, false, true, file), nil, "bad", 401},
		{"a wrong token where anonymous requests are on", open, configured(webhook, true, true, file), nil, "bad", 401},
		{"a token where tokens are off", client, configured(webhook, false, false, file), nil, "good", 401},
		{"nothing", client, configured(webhook, false, true, file), nil, "", 401},
		{"nothing, and all may do all", client, configured(always, false, true, file), nil, "", 401},
		{"anonymous who may not", client, configured(webhook, true, true, file), nil, "", 403},
		{"anonymous who may", open, configured(webhook, true, true, file), nil, "", 200},
		{"anonymous, and all may do all", client, configured(always, true, true, file), nil, "", 200},
		{"standalone: a certificate, and all may do all", standalone, configured(always, false, true, file), alice, "", 200},
		{"standalone: a certificate, and nobody to ask", standalone, configured(webhook, false, true, file), alice, "", 403},
		{"standalone: a token", standalone, configured(always, false, true, file), nil, "good", 401},
		{"standalone: nothing configured", standalone, configured(webhook, false, true, ""), nil, "", 401},
		{"standalone: anonymous only", standalone, configured(always, true, true, ""), nil, "", 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, err := NewAuth(tt.client, tt.cfg)
			if err != nil {
				t.Fatal(err)
			}
			base, trusted := startAPI(t, &host{}, func(c *APIConfig) {
				c.Authenticator, c.Authorizer, c.ClientCA = a.Authenticator, a.Authorizer, a.ClientCA
			})
			if code := visit(t, base, trusted, tt.cert, tt.token); code != tt.code {
				t.Errorf("answered %d, want %d", code, tt.code)
			}
		})
	}
}

func TestAnswersOfTheAPIServerAreKept(t *testing.T) {
	client, reviews, access := apiServer(t, "bob")
	a, err := NewAuth(client, configured(kubeletconfig.KubeletAuthorizationModeWebhook, false, true, ""))
	if err != nil {
		t.Fatal(err)
	}
	base, trusted := startAPI(t, &host{}, func(c *APIConfig) { c.Authenticator, c.Authorizer = a.Authenticator, a.Authorizer })
	for range 5 {
		if code := visit(t, base, trusted, nil, "good"); code != 200 {
			t.Fatalf("answered %d", code)
		}
	}
	if reviews.Load() != 1 || access.Load() != 1 {
		t.Errorf("the API server was asked %d times about the token and %d times about access, want once", reviews.Load(), access.Load())
	}
}

func TestTheClientCAIsFollowed(t *testing.T) {
	before, after := newAuthority(t, "before"), newAuthority(t, "after")
	file := filepath.Join(t.TempDir(), "ca.crt")
	before.write(t, file)
	a, err := NewAuth(nil, configured(kubeletconfig.KubeletAuthorizationModeAlwaysAllow, false, false, file))
	if err != nil {
		t.Fatal(err)
	}
	testrun.Start(t, a.Run)
	base, trusted := startAPI(t, &host{}, func(c *APIConfig) {
		c.Authenticator, c.Authorizer, c.ClientCA = a.Authenticator, a.Authorizer, a.ClientCA
	})
	old, new := before.client(t, "alice"), after.client(t, "alice")
	if code := visit(t, base, trusted, old, ""); code != 200 {
		t.Fatalf("answered %d", code)
	}
	after.write(t, file)
	eventually(t, func() string {
		if code := visit(t, base, trusted, new, ""); code != 200 {
			return fmt.Sprintf("a certificate of the new CA was answered %d", code)
		}
		return ""
	})
	if code := visit(t, base, trusted, old, ""); code != 401 {
		t.Errorf("a certificate of the old CA was answered %d", code)
	}
	if got := asked(t, base); len(got) != 1 || string(got[0]) != string(after.cert.RawSubject) {
		t.Errorf("clients are told %d CAs, want the new one", len(got))
	}
}

// asked returns the CAs from which the server would accept a client's certificate.
func asked(t *testing.T, base string) (cas [][]byte) {
	t.Helper()
	conn, err := tls.Dial("tcp", base[len("https://"):], &tls.Config{
		InsecureSkipVerify: true,
		GetClientCertificate: func(i *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cas = i.AcceptableCAs
			return &tls.Certificate{}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	return cas
}

func TestAuthThatCannotWorkIsRefused(t *testing.T) {
	for name, cfg := range map[string]AuthConfig{
		"no mode":      configured("", false, false, ""),
		"unknown mode": configured("ABAC", false, false, ""),
		"no CA file":   configured(kubeletconfig.KubeletAuthorizationModeAlwaysAllow, false, false, filepath.Join(t.TempDir(), "none")),
	} {
		if _, err := NewAuth(nil, cfg); err == nil {
			t.Errorf("%s: NewAuth succeeded", name)
		}
	}
}

func TestAuthWithoutAFileToFollowRunsUntilItsEnd(t *testing.T) {
	a, err := NewAuth(nil, configured(kubeletconfig.KubeletAuthorizationModeAlwaysAllow, true, false, ""))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := a.Run(ctx); err != nil {
		t.Error(err)
	}
}
