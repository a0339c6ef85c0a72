package server

import (
	"io"
	"net"
	"net/http"
	"os"
	"slices"
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

func TestNamesOfThisMachine(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	names := ownNames("Node-1")
	if !slices.Contains(names, "Node-1") || !slices.Contains(names, host) {
		t.Errorf("names %q of host %q", names, host)
	}
	if slices.Contains(ownNames(""), "") {
		t.Error("no name is a name")
	}
	for name, want := range map[string]bool{
		"debian.home.arpa:10255": true, "DEBIAN:10255": true, "debian.": true, "debian.attacker.example": false, "home.arpa": false, "": true, ":10255": false,
	} {
		if got := meansThisMachine(name, []string{"debian", "debian.home.arpa."}); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

// What /etc/hosts says of a loopback address counts.
func TestNamesInHosts(t *testing.T) {
	hosts, err := os.ReadFile("/etc/hosts")
	if err != nil {
		t.Skip(err)
	}
	names := ownNames("")
	for line := range strings.Lines(string(hosts)) {
		line, _, _ = strings.Cut(line, "#")
		if f := strings.Fields(line); len(f) > 1 && (f[0] == "127.0.0.1" || f[0] == "127.0.1.1") && !slices.Contains(names, f[1]) {
			t.Errorf("%q is not in %q", f[1], names)
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
