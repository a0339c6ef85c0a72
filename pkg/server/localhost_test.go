package server

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAPageOfAnotherHostReadsNothingThroughABrowserHere(t *testing.T) {
	pods := podList{{ObjectMeta: metav1.ObjectMeta{Name: "secret"}, Spec: v1.PodSpec{}}}
	healthz, readOnly := start(t, Config{NodeName: "Node-1", Pods: pods})
	for host, code := range map[string]int{
		"localhost":               200,
		"LocalHost:10255":         200,
		"localhost.":              200,
		"127.0.0.1":               200,
		"127.0.0.1:10255":         200,
		"[::1]:10255":             200,
		"[::1]":                   200,
		"192.0.2.7:10255":         200, // forwarded from there
		"node-1:10255":            200,
		"rebind.attacker.example": 403,
		"localhost.example":       403,
		"127.0.0.1.example:10255": 403,
		"node-1.example":          403,
		"node-2":                  403,
		"127.0.0.1:10255:1":       403,
		"0x7f000001":              403,
	} {
		for _, url := range []string{healthz + "/healthz", readOnly + "/healthz", readOnly + "/pods", readOnly + "/metrics"} {
			req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = host
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != code || code == 403 && strings.Contains(string(body), "secret") {
				t.Errorf("%s for %q: %s %q, %v, want %d", url, host, resp.Status, body, err, code)
			}
		}
	}
}

func TestAClientWithoutAHostHeaderIsNoBrowser(t *testing.T) {
	healthz, _ := start(t, Config{NodeName: "n1"})
	c := connect(t, strings.TrimPrefix(healthz, "http://"), 1, "GET /healthz HTTP/1.0\r\n\r\n")[0]
	if answer, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.0 200") {
		t.Errorf("%q, %v", answer, err)
	}
}

// Which name another address of this machine has, only its clients know.
func TestOverTheNetworkAnyNameMayBeThisMachines(t *testing.T) {
	for address, want := range map[string]bool{"127.0.0.1": true, "127.8.8.8": true, "::1": true, "192.0.2.1": false, "2001:db8::1": false} {
		if got := loopback(&net.TCPAddr{IP: net.ParseIP(address)}); got != want {
			t.Errorf("%s: loopback %v", address, got)
		}
	}
}
