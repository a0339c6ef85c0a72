package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// connect opens connections and sends each the same text.
func connect(t *testing.T, address string, n int, text string) (all []net.Conn) {
	t.Helper()
	for range n {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

// within lets a request end with the test, not with the patience of a server that is
// full: each timeout of the server is far longer.
func within(t *testing.T, c *http.Client, url string) (int, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(soon(t), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

func TestNobodyIsShutOutByOthersWhoHoldConnections(t *testing.T) {
	stuck := make(chan struct{})
	checks := []Check{{Name: "stuck", Check: func(ctx context.Context) error {
		select {
		case <-stuck:
		case <-ctx.Done():
		}
		return nil
	}}}
	t.Cleanup(func() { close(stuck) })
	s, err := New(Config{
		HealthzListen: "127.0.0.1:0", ReadOnlyListen: "127.0.0.1:0", Pods: podList{}, Metrics: prometheus.NewRegistry(), Checks: checks,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.endpoints[1].listener.limit = maxConnections // as many as that are enough
	for _, e := range s.endpoints {                // nobody is to be let in because a timeout has come
		e.http.ReadHeaderTimeout, e.http.ReadTimeout, e.http.IdleTimeout = time.Hour, time.Hour, time.Hour
	}
	testrun.Start(t, s.Run)
	for _, e := range s.endpoints {
		address := e.listener.Addr().String()
		for name, text := range map[string]string{
			"silent":             "",
			"half a request":     "GET /healthz HTTP/1.1\r\nHost: localhost\r\n",
			"idle, kept alive":   "GET /healthz/ping HTTP/1.1\r\nHost: localhost\r\n\r\n",
			"a body never sent":  "GET /healthz/ping HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n",
			"a check that hangs": "GET /healthz/stuck HTTP/1.1\r\nHost: localhost\r\n\r\n",
		} {
			connect(t, address, maxConnections+maxConnections/2, text)
			if code, err := within(t, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, "http://"+address+"/healthz/ping"); code != 200 {
				t.Errorf("%s, %s: %d, %v", e.name, name, code, err)
			}
			// Others come while a client has not sent its request.
			slow := connect(t, address, 1, "")[0]
			connect(t, address, maxConnections/2, "")
			if code, err := within(t, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, "http://"+address+"/healthz/ping"); code != 200 {
				t.Errorf("%s, %s: %d, %v", e.name, name, code, err)
			}
			if err := slow.SetDeadline(time.Now().Add(testrun.Patience)); err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(slow, "GET /healthz/ping HTTP/1.0\r\n\r\n")
			if answer, err := io.ReadAll(slow); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.0 200") {
				t.Errorf("%s, %s: who was slow has %q, %v", e.name, name, answer, err)
			}
		}
	}
}

// A request that waits for its answer when it gives way is answered all the same; one of whose
// answer something was sent is only cut.
func TestWhoGivesWayIsToldWhy(t *testing.T) {
	started := make(chan struct{}, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("/waits", func(w http.ResponseWriter, r *http.Request) {
		started <- struct{}{}
		<-r.Context().Done()
		_, _ = io.WriteString(w, "too late")
	})
	mux.HandleFunc("/writes", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "begun")
		_ = http.NewResponseController(w).Flush()
		started <- struct{}{}
		<-r.Context().Done()
	})
	s := &Server{}
	e, err := s.listen("test", "127.0.0.1:0", "", 1, mux)
	if err != nil {
		t.Fatal(err)
	}
	testrun.Start(t, s.Run)
	for path, want := range map[string]string{"/waits": turnedAway, "/writes": "begun"} {
		c := connect(t, e.listener.Addr().String(), 1, "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n")[0]
		<-started
		connect(t, e.listener.Addr().String(), 1, "") // the new one
		if err := c.SetReadDeadline(time.Now().Add(testrun.Patience)); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(c)
		if path == "/waits" && (string(answer) != want || err != nil) {
			t.Errorf("%s: %q, %v", path, answer, err)
		}
		if path == "/writes" && (!strings.Contains(string(answer), want) || strings.Contains(string(answer), "503")) {
			t.Errorf("%s: %q, %v", path, answer, err)
		}
	}
	if _, length, _ := strings.Cut(turnedAway, "Content-Length: "); !strings.HasPrefix(length, fmt.Sprint(len(turnedAway[strings.Index(turnedAway, "\r\n\r\n")+4:]))) {
		t.Errorf("the length is wrong: %q", turnedAway)
	}
}

// fullAPI serves the kubelet API for a handful of connections only.
func fullAPI(t *testing.T, limit int, h Host, change func(*APIConfig)) (address string, client func() *http.Client) {
	t.Helper()
	certs := httptest.NewTLSServer(nil)
	defer certs.Close()
	c := APIConfig{
		Listen: "127.0.0.1:0", TLS: &tls.Config{Certificates: certs.TLS.Certificates},
		Authenticator: byHeader, Authorizer: always, NodeName: "n1", Content: Content{Host: h, Configz: func() any { return nil }, Debugging: true},
	}
	if change != nil {
		change(&c)
	}
	s, err := New(Config{API: &c, Pods: podList{}})
	if err != nil {
		t.Fatal(err)
	}
	e := s.endpoints[0]
	e.listener.limit = limit
	e.http.ReadHeaderTimeout, e.http.IdleTimeout = time.Hour, time.Hour
	testrun.Start(t, s.Run)
	trusted := certs.Client().Transport.(*http.Transport)
	return e.listener.Addr().String(), func() *http.Client {
		transport := trusted.Clone()
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: asAlice{transport}}
	}
}

// byHeader knows those who say that they are alice.
var byHeader = authenticator.RequestFunc(func(r *http.Request) (*authenticator.Response, bool, error) {
	return &authenticator.Response{User: &user.DefaultInfo{Name: "alice"}}, r.Header.Get("I-Am") == "alice", nil
})

type asAlice struct{ http.RoundTripper }

func (a asAlice) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Header.Set("I-Am", "alice")
	return a.RoundTripper.RoundTrip(r)
}

func dialTLS(t *testing.T, address, text string) *tls.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestWhoIsNotLetInKeepsNobodyOutOfTheAPI(t *testing.T) {
	const limit = 8
	for name, hold := range map[string]func(t *testing.T, address string){
		"no handshake":     func(t *testing.T, address string) { connect(t, address, 1, "") },
		"half a handshake": func(t *testing.T, address string) { connect(t, address, 1, "\x16\x03\x01\x02\x00\x01") },
		"no request":       func(t *testing.T, address string) { dialTLS(t, address, "") },
		"half a request":   func(t *testing.T, address string) { dialTLS(t, address, "GET /pods HTTP/1.1\r\n") },
		"not known":        func(t *testing.T, address string) { dialTLS(t, address, "GET /pods HTTP/1.1\r\nHost: a\r\n\r\n") },
		"body never sent": func(t *testing.T, address string) {
			dialTLS(t, address, "POST /pods HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			following := make(chan struct{}, 1)
			h := &host{logs: func(ctx context.Context, o *v1.PodLogOptions, stdout, _ io.Writer) error {
				_, err := io.WriteString(stdout, "begun\n")
				following <- struct{}{}
				<-ctx.Done()
				return err
			}}
			address, client := fullAPI(t, limit, h, nil)
			kept := client()
			if code, err := within(t, kept, "https://"+address+"/pods"); code != 200 {
				t.Fatalf("%d, %v", code, err)
			}
			ctx, cancel := context.WithCancel(soon(t))
			defer cancel()
			req, _ := http.NewRequestWithContext(ctx, "GET", "https://"+address+"/containerLogs/ns/p/c?follow=true", nil)
			resp, err := client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			<-following
			for range 3 * limit {
				hold(t, address)
			}
			for _, c := range []*http.Client{client(), kept} {
				if code, err := within(t, c, "https://"+address+"/pods"); code != 200 {
					t.Errorf("%d, %v", code, err)
				}
			}
			if _, err := io.ReadFull(resp.Body, make([]byte, len("begun\n"))); err != nil {
				t.Errorf("the followed log ended: %v", err)
			}
		})
	}
}

func TestWhoGivesWay(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const limit = 6
	c := newCrowd(l, limit)
	defer c.Close()
	connect(t, l.Addr().String(), 2*limit, "")
	accept := func() *guest {
		t.Helper()
		nc, err := c.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		return nc.(*guest)
	}
	enter := func(g *guest) bool { return letIn(context.WithValue(t.Context(), guestKey{}, g)) }
	served, judged, idle := accept(), accept(), accept()
	for _, g := range []*guest{served, judged, idle} {
		c.state(g, http.StateActive)
		if !enter(g) {
			t.Fatal("not let in")
		}
	}
	c.state(judged, http.StateIdle)
	c.state(judged, http.StateActive)
	c.state(idle, http.StateIdle)
	busy, silent, later := accept(), accept(), accept() // none of them let in
	c.state(busy, http.StateActive)
	c.state(later, http.StateActive)
	for i, want := range []*guest{busy, silent, later, idle, judged} {
		g := accept()
		if _, here := c.all[want]; here || len(c.all) != limit {
			t.Fatalf("no. %d was to give way", i)
		}
		if enter(want) {
			t.Errorf("no. %d has given way and was let in", i)
		}
		c.state(g, http.StateActive)
		if !enter(g) {
			t.Errorf("the new one in place of no. %d was not let in", i)
		}
	}
	if _, here := c.all[served]; !here {
		t.Error("a request that was let in lost its connection")
	}
}

func TestWhoIsTurnedAwayLosesTheConnection(t *testing.T) {
	for name, change := range map[string]func(*APIConfig){
		"401": nil,
		"403": func(c *APIConfig) { c.Authenticator, c.Authorizer = alice, never },
		"500": func(c *APIConfig) { c.Authenticator, c.Authorizer = alice, broken },
	} {
		address, _ := fullAPI(t, 8, &host{}, change)
		for _, body := range []string{"", "Content-Length: 9\r\n"} { // which is never sent
			c := dialTLS(t, address, "GET /pods HTTP/1.1\r\nHost: a\r\n"+body+"\r\n")
			if err := c.SetReadDeadline(time.Now().Add(shortTimeout / 2)); err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(c)
			if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 "+name) || !strings.Contains(string(answer), "Connection: close") {
				t.Errorf("%s, %q: %q, %v", name, body, answer, err)
			}
		}
	}
}

// With as many requests as the API takes, a new one waits for the first that ends.
func TestARequestThatWasLetInGivesWayToNone(t *testing.T) {
	const limit = 4
	release, following := make(chan struct{}), make(chan struct{}, limit)
	h := &host{logs: func(_ context.Context, _ *v1.PodLogOptions, stdout, _ io.Writer) error {
		following <- struct{}{}
		<-release
		_, err := io.WriteString(stdout, "end\n")
		return err
	}}
	address, client := fullAPI(t, limit, h, nil)
	ended := make(chan error, limit)
	for range limit {
		go func() {
			code, err := within(t, client(), "https://"+address+"/containerLogs/ns/p/c")
			if code != 200 && err == nil {
				err = fmt.Errorf("status %d", code)
			}
			ended <- err
		}()
	}
	for range limit {
		<-following
	}
	more := make(chan error, 1)
	go func() {
		code, err := within(t, client(), "https://"+address+"/pods")
		if code != 200 && err == nil {
			err = fmt.Errorf("status %d", code)
		}
		more <- err
	}()
	close(release)
	for range limit {
		if err := <-ended; err != nil {
			t.Errorf("a request that was let in: %v", err)
		}
	}
	if err := <-more; err != nil {
		t.Errorf("one more request: %v", err)
	}
}

func TestAFullListenerCanBeClosed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := newCrowd(l, 1)
	connect(t, l.Addr().String(), 2, "")
	first, err := c.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	letIn(context.WithValue(t.Context(), guestKey{}, first))
	ended := make(chan error, 1)
	go func() {
		_, err := c.Accept()
		ended <- err
	}()
	c.Close()
	c.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept() = %v", err)
	}
}

func TestFailedHandshakesFillNoLog(t *testing.T) {
	var out strings.Builder
	l := log.New(quietHandshakes{&out}, "", log.Lshortfile)
	l.Print("http: TLS handshake error from 192.0.2.1:1: EOF")
	l.Print("http: panic serving 192.0.2.1:1: a defect")
	if got := out.String(); strings.Contains(got, "handshake") || !strings.Contains(got, "a defect") {
		t.Errorf("logged %q", got)
	}
}
