package server

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestZPages(t *testing.T) {
	get := func(a *api, method, path, accept string) *httptest.ResponseRecorder {
		t.Helper()
		mux := http.NewServeMux()
		if err := a.addZPages(mux); err != nil {
			t.Fatal(err)
		}
		w, r := httptest.NewRecorder(), httptest.NewRequest(method, path, nil)
		r.Header.Set("Accept", accept)
		mux.ServeHTTP(w, r)
		return w
	}
	a := &api{Content: Content{Version: "v1.37.2", Flags: func() map[string]string { return map[string]string{"max-pods": "110"} }}}
	for path, want := range map[string][]string{
		"/statusz": {"kubelet statusz", "1.37", "/flagz", "/metrics"},
		"/flagz":   {"kubelet flagz", "max-pods", "110"},
	} {
		w := get(a, "GET", path, "text/plain")
		for _, text := range want {
			if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), text) {
				t.Errorf("%s lacks %q: %d %s", path, text, w.Code, w.Body)
			}
		}
		if w := get(a, "POST", path, "text/plain"); w.Code != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %d", path, w.Code)
		}
	}
	if w := get(a, "GET", "/flagz", "application/json;v=v1beta1;g=config.k8s.io;as=Flagz"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"max-pods"`) {
		t.Errorf("the structured page: %d %s", w.Code, w.Body)
	}
	if w := get(&api{}, "GET", "/statusz", "text/plain"); w.Code != http.StatusNotFound {
		t.Errorf("without a version: %d", w.Code)
	}
	if err := (&api{Content: Content{Version: "dev"}}).addZPages(http.NewServeMux()); err == nil {
		t.Error("a version that is none was taken")
	}
}
