package httpget

import (
	"net/http"
	"net/url"
	"reflect"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestRequest(t *testing.T) {
	plain := http.Header{"User-Agent": {"kube-test/1"}, "Accept": {"*/*"}}
	for name, tc := range map[string]struct {
		a          v1.HTTPGetAction
		url, host  string
		wantHeader http.Header
	}{
		"least":         {v1.HTTPGetAction{}, "http://10.0.0.1:80", "10.0.0.1:80", plain},
		"query":         {v1.HTTPGetAction{Path: "/a?b=c", Scheme: v1.URISchemeHTTPS}, "https://10.0.0.1:80/a?b=c", "10.0.0.1:80", plain},
		"no URL's path": {v1.HTTPGetAction{Path: "/%zz"}, "http://10.0.0.1:80/%25zz", "10.0.0.1:80", plain},
		"opaque":        {v1.HTTPGetAction{Path: "x:secret?q"}, "http://10.0.0.1:80/x:secret%3Fq", "10.0.0.1:80", plain},
		"headers": {v1.HTTPGetAction{Path: "/", HTTPHeaders: []v1.HTTPHeader{{Name: "host", Value: "me"}, {Name: "X-A", Value: "1"}, {Name: "X-A", Value: "2"}, {Name: "User-Agent", Value: "mine"}, {Name: "Accept"}}},
			"http://10.0.0.1:80/", "me", http.Header{"Host": {"me"}, "X-A": {"1", "2"}, "User-Agent": {"mine"}}},
	} {
		req, err := Request(t.Context(), &tc.a, "10.0.0.1:80", "kube-test/1")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if req.URL.String() != tc.url || req.Host != tc.host || !reflect.DeepEqual(req.Header, tc.wantHeader) {
			t.Errorf("%s: %s of %s with %v", name, req.URL, req.Host, req.Header)
		}
	}
}

func TestPort(t *testing.T) {
	c := &v1.Container{Name: "c", Ports: []v1.ContainerPort{{Name: "a", ContainerPort: 1}, {Name: "web", ContainerPort: 8080}}}
	for name, tc := range map[string]struct {
		port intstr.IntOrString
		want int
	}{
		"number":         {intstr.FromInt32(80), 80},
		"name":           {intstr.FromString("web"), 8080},
		"number as text": {intstr.FromString("81"), 81},
		"unknown name":   {intstr.FromString("none"), 0},
		"none":           {intstr.FromInt32(0), 0},
		"too big":        {intstr.FromInt32(65536), 0},
	} {
		if got, err := Port(tc.port, c); got != tc.want || (err == nil) != (tc.want != 0) {
			t.Errorf("%s: %d, %v; want %d", name, got, err, tc.want)
		}
	}
}

func TestSameHost(t *testing.T) {
	to := func(address string) *http.Request {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		return &http.Request{URL: u}
	}
	asked := []*http.Request{to("http://a:80/")}
	if err := SameHost(to("https://a:443/x"), asked); err != nil {
		t.Errorf("to another port of the host: %v", err)
	}
	if err := SameHost(to("http://b:80/"), asked); err != http.ErrUseLastResponse {
		t.Errorf("to another host: %v", err)
	}
	for len(asked) < maxRedirects {
		asked = append(asked, asked[0])
	}
	if err := SameHost(to("http://a/"), asked); err == nil || err == http.ErrUseLastResponse {
		t.Errorf("for ever: %v", err)
	}
}
