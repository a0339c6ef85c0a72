package credentials

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/certificate"
)

func newTestHolder(t *testing.T, dir string) *holder {
	t.Helper()
	store, err := certificate.NewFileStore(clientPair, dir, dir, "", "")
	if err != nil {
		t.Fatal(err)
	}
	return newHolder(store)
}

// apiServer answers with the client certificate's name, and keeps /watch open until
// the test ends.
func apiServer(t *testing.T, http2 bool) (*httptest.Server, *atomic.Int32, chan<- string) {
	var connections atomic.Int32
	lines := make(chan string)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, r.TLS.PeerCertificates[0].Subject.CommonName)
		if r.URL.Path != "/watch" {
			return
		}
		for {
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
				return
			case l := <-lines:
				fmt.Fprintln(w, l)
			}
		}
	}))
	s.EnableHTTP2 = http2
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, &connections, lines
}

func TestNewCertificateMeansNewConnectionsAndStreamsGoOn(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			s, connections, lines := apiServer(t, http2)
			h := newTestHolder(t, t.TempDir())
			rt, err := newTransport(&rest.Config{Host: s.URL, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}, h)
			if err != nil {
				t.Fatal(err)
			}
			client := &http.Client{Transport: rt}
			defer client.CloseIdleConnections()
			ask := func() string {
				t.Helper()
				r, err := client.Get(s.URL + "/")
				if err != nil {
					t.Fatal(err)
				}
				defer r.Body.Close()
				text, err := io.ReadAll(r.Body)
				if err != nil {
					t.Fatal(err)
				}
				return strings.TrimSpace(string(text))
			}
			if _, err := h.Update(newPair(t, "first", time.Hour)); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/watch", nil)
			if err != nil {
				t.Fatal(err)
			}
			stream, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Body.Close()
			watch := bufio.NewScanner(stream.Body)
			if !watch.Scan() || watch.Text() != "first" {
				t.Fatalf("the stream begins with %q", watch.Text())
			}
			if got := ask(); got != "first" {
				t.Fatalf("certificate = %q, want the first", got)
			}
			before := connections.Load()
			if _, err := h.Update(newPair(t, "second", time.Hour)); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if got := ask(); got != "second" {
					t.Fatalf("certificate = %q, want the second", got)
				}
			}
			if n := connections.Load() - before; n != 1 {
				t.Errorf("%d new connections, want one for all requests", n)
			}
			lines <- "still here"
			if !watch.Scan() || watch.Text() != "still here" {
				t.Errorf("the stream on the old certificate ended: %q, %v", watch.Text(), watch.Err())
			}
		})
	}
}

// noted reports whether a request's body was closed.
type noted struct {
	io.Reader
	closed bool
}

func (n *noted) Close() error { n.closed = true; return nil }

func TestRequestsWaitForTheFirstCertificate(t *testing.T) {
	dir := t.TempDir()
	certPEM, keyPEM := newPair(t, "first", 1000*time.Hour)
	synctest.Test(t, func(t *testing.T) {
		h := newTestHolder(t, dir)
		tr := &transports{base: &tls.Config{}, holder: h}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("the caller's patience"))
		defer cancel()
		body := &noted{Reader: strings.NewReader("x")}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://api.test/", body)
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if _, err := tr.RoundTrip(req); !errors.Is(err, errNoCertificate) || !strings.Contains(err.Error(), "the caller's patience") || !body.closed {
			t.Errorf("RoundTrip: %v, body closed %v; want why, and the body closed", err, body.closed)
		}
		if took := time.Since(begun); took != time.Second {
			t.Errorf("it took %v, want as long as the request's context", took)
		}
		begun = time.Now()
		if err := tr.await(t.Context()); !errors.Is(err, errNoCertificate) || time.Since(begun) != firstWait {
			t.Errorf("without an end: %v after %v, want an error after %v", err, time.Since(begun), firstWait)
		}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if err := tr.await(t.Context()); err != nil {
					t.Errorf("await: %v", err)
				}
			})
		}
		synctest.Wait()
		if err := h.use(certPEM, keyPEM); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
}

// keeper is a certificate manager that does nothing.
type keeper struct {
	certificate.Manager
	started, stopped atomic.Int32
}

func (k *keeper) Start() { k.started.Add(1) }
func (k *keeper) Stop()  { k.stopped.Add(1) }

func TestKubeconfigIsWrittenOnceThereIsACertificate(t *testing.T) {
	for name, rotate := range map[string]bool{"to be renewed": true, "for good": false} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "kubelet.conf")
			certPEM, keyPEM := newPair(t, "first", 1000*time.Hour)
			synctest.Test(t, func(t *testing.T) {
				h, k := newTestHolder(t, filepath.Join(dir, "pki")), &keeper{}
				c := &Client{cfg: Config{Kubeconfig: path, Rotate: rotate}, manager: k, holder: h, write: kubeconfigOf(&rest.Config{Host: "https://api.test"}, "/pki/current.pem")}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- c.Run(ctx) }()
				synctest.Wait()
				if err := h.use(certPEM, keyPEM); err != nil { // from a kubeconfig, not from the store
					t.Fatal(err)
				}
				synctest.Wait()
				if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
					t.Fatalf("before a certificate is stored: %v, want no file", err)
				}
				for range 2 {
					if _, err := h.Update(certPEM, keyPEM); err != nil {
						t.Fatal(err)
					}
				}
				synctest.Wait()
				if _, err := os.Stat(path); err != nil {
					t.Errorf("once a certificate is stored: %v", err)
				}
				if stopped := k.stopped.Load() > 0; stopped == rotate {
					t.Errorf("renewing has stopped: %v, want %v", stopped, !rotate)
				}
				cancel()
				if err := <-done; err != nil {
					t.Errorf("Run: %v", err)
				}
				if k.started.Load() != 1 || k.stopped.Load() == 0 {
					t.Errorf("started %d times, stopped %d times", k.started.Load(), k.stopped.Load())
				}
			})
		})
	}
}

func TestKubeconfigThatCannotBeWrittenEndsABootstrapOnly(t *testing.T) {
	for name, usable := range map[string]bool{"one that can be used is there": true, "there is none": false} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			certPEM, keyPEM := newPair(t, "first", 1000*time.Hour)
			if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				h := newTestHolder(t, filepath.Join(dir, "pki"))
				if _, err := h.Update(certPEM, keyPEM); err != nil {
					t.Fatal(err)
				}
				c := &Client{cfg: Config{Kubeconfig: filepath.Join(dir, "file", "kubelet.conf"), Rotate: true}, manager: &keeper{}, holder: h, write: kubeconfigOf(&rest.Config{}, "pem"), usable: usable}
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				begun := time.Now()
				err := c.Run(ctx)
				if usable && (err != nil || time.Since(begun) != time.Hour) {
					t.Errorf("Run: %v after %v, want it to go on", err, time.Since(begun))
				}
				if !usable && err == nil {
					t.Error("no error though nothing will find the certificate after a restart")
				}
			})
		})
	}
}
