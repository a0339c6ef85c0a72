package imageservice

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/registry"
	containerregistry "github.com/google/go-containerregistry/pkg/registry"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/test/testimage"
)

const someID = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestTargets(t *testing.T) {
	digest := "@sha256:" + someID
	for in, want := range map[string]struct {
		text, prefix string
		bad          bool
	}{
		"nginx":                        {text: "nginx:latest"},
		"nginx:1":                      {text: "nginx:1"},
		"docker.io/library/nginx:1":    {text: "nginx:1"},
		"example.com:5000/a/b:c":       {text: "example.com:5000/a/b:c"},
		"nginx" + digest:               {text: "nginx" + digest},
		"nginx:1" + digest:             {text: "nginx" + digest}, // the digest says which content is meant
		"sha256:" + someID:             {text: "sha256:" + someID},
		someID:                         {text: "sha256:" + someID},
		"0123abc":                      {text: "0123abc:latest", prefix: "0123abc"},
		"":                             {bad: true},
		"UPPER":                        {bad: true},
		"a b":                          {bad: true},
		"nginx:":                       {bad: true},
		"nginx@sha256:12":              {bad: true},
		"nginx@sha512:" + someID + "0": {bad: true},
		"../etc":                       {bad: true},
	} {
		got, err := parseTarget(in)
		if want.bad {
			if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "image.image") {
				t.Errorf("%q: %v, want InvalidArgument naming the field", in, err)
			}
			continue
		}
		if err != nil || got.String() != want.text || got.idPrefix != want.prefix {
			t.Errorf("%q is %q with prefix %q, %v; want %q, %q", in, got, got.idPrefix, err, want.text, want.prefix)
		}
	}
}

func TestCredentials(t *testing.T) {
	named, err := reference.ParseNormalizedNamed("example.com/a")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		auth    *cri.AuthConfig
		want    *registry.AuthConfig // nil: none is sent
		foreign bool
	}{
		"none":             {nil, nil, false},
		"empty":            {&cri.AuthConfig{}, nil, false},
		"user":             {&cri.AuthConfig{Username: "u", Password: "secret"}, &registry.AuthConfig{Username: "u", Password: "secret"}, false},
		"auth":             {&cri.AuthConfig{Auth: base64.StdEncoding.EncodeToString([]byte("u:sec:ret"))}, &registry.AuthConfig{Username: "u", Password: "sec:ret"}, false},
		"identity token":   {&cri.AuthConfig{IdentityToken: "token"}, &registry.AuthConfig{IdentityToken: "token"}, false},
		"registry token":   {&cri.AuthConfig{RegistryToken: "token"}, &registry.AuthConfig{RegistryToken: "token"}, false},
		"for it":           {&cri.AuthConfig{Username: "u", Password: "secret", ServerAddress: "https://example.com/v2/"}, &registry.AuthConfig{Username: "u", Password: "secret"}, false},
		"wildcard":         {&cri.AuthConfig{Username: "u", Password: "secret", ServerAddress: "*.com"}, &registry.AuthConfig{Username: "u", Password: "secret"}, false},
		"for another host": {&cri.AuthConfig{Username: "u", Password: "secret", ServerAddress: "evil.example"}, nil, true},
	} {
		c, foreign, err := pullCredentials(tc.auth, named)
		if err != nil || foreign != tc.foreign || (c.header == "") != (tc.want == nil) {
			t.Errorf("%s: header %q, foreign %v, %v", name, c.header, foreign, err)
			continue
		}
		if tc.want == nil {
			continue
		}
		text, err := base64.URLEncoding.DecodeString(c.header)
		if err != nil {
			t.Fatal(err)
		}
		var got registry.AuthConfig
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if got.ServerAddress = ""; got != *tc.want {
			t.Errorf("%s: Docker gets %+v, want %+v", name, got, *tc.want)
		}
		if said := fmt.Sprintf("%v %+v", c.redact("the password is secret or sec:ret or token"), name); strings.Contains(said, "secret") && tc.want.Password == "secret" {
			t.Errorf("%s: not redacted: %s", name, said)
		}
	}
	for _, auth := range []string{"!", base64.StdEncoding.EncodeToString([]byte("no colon"))} {
		if _, _, err := pullCredentials(&cri.AuthConfig{Auth: auth}, named); status.Code(err) != codes.InvalidArgument || strings.Contains(err.Error(), auth) {
			t.Errorf("auth %q: %v", auth, err)
		}
	}
}

func TestRegistriesErrorsHaveTheirCodes(t *testing.T) {
	for text, want := range map[string]codes.Code{
		"pull access denied for x, repository does not exist or may require 'docker login'": codes.PermissionDenied,
		"manifest for x:1 not found: manifest unknown: Unknown manifest":                    codes.NotFound,
		"repository x not found: name unknown: Unknown name":                                codes.NotFound,
		"unauthorized: authentication required":                                             codes.Unauthenticated,
		"toomanyrequests: you have reached your pull rate limit":                            codes.ResourceExhausted,
		"write /var/lib/docker/tmp/x: no space left on device":                              codes.ResourceExhausted,
		"dial tcp: lookup registry: no such host":                                           codes.Unavailable,
		"received unexpected HTTP status: 503 Service Unavailable":                          codes.Unavailable,
		"something else": codes.Internal,
		"received unexpected HTTP status: 401 Unauthorized": codes.Unauthenticated,
		// What an image is called is not what is wrong with it.
		"repository 127.0.0.1:41401/denied not found: name unknown: Unknown name":           codes.NotFound,
		"manifest for 127.0.0.1:41401/denied:401 not found: manifest unknown: unknown":      codes.NotFound,
		"dial tcp 127.0.0.1:41401: connect: connection refused: 127.0.0.1:41401/denied:401": codes.Unavailable,
		"pull access denied for 127.0.0.1:41401/denied, repository does not exist":          codes.PermissionDenied,
	} {
		if got := code(errors.New(text), "127.0.0.1:41401/denied:401"); got != want {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	}
	if got := code(errors.New("a denied: unauthorized"), "a:1"); got != codes.PermissionDenied {
		t.Errorf("a short name takes letters: %v", got)
	}
}

// message is what Docker says of a layer.
func message(id, text string, current, total int64) pullMessage {
	m := pullMessage{ID: id, Status: text}
	m.ProgressDetail.Current, m.ProgressDetail.Total = current, total
	return m
}

func TestProgress(t *testing.T) {
	var p progress
	for i, step := range []struct {
		m            pullMessage
		moved, local bool
	}{
		{message("", "Pulling from library/nginx", 0, 0), true, false},
		{message("a", "Pulling fs layer", 0, 0), true, false},
		{message("b", "Pulling fs layer", 0, 0), true, false},
		{message("a", "Downloading", 10, 100), true, false},
		{message("a", "Downloading", 10, 100), false, false}, // Docker repeats itself
		{message("a", "Downloading", 20, 100), true, false},
		{message("a", "Download complete", 0, 0), true, false},
		{message("b", "Verifying Checksum", 0, 0), true, true},
		{message("b", "Download complete", 0, 0), true, true},
		{message("a", "Extracting", 1, 2), true, true},
		{message("a", "Pull complete", 0, 0), true, true},
	} {
		if moved := p.see(step.m); moved != step.moved || p.local() != step.local {
			t.Errorf("step %d: moved %v, local %v; want %v, %v", i, moved, p.local(), step.moved, step.local)
		}
	}
}

// What a registry says of sizes is not always true, and layers may come in any order.
func TestHowFarAPullIs(t *testing.T) {
	var p progress
	for i, step := range []struct {
		m    pullMessage
		want docker.Progress
	}{
		{message("latest", "Pulling from library/nginx", 0, 0), docker.Progress{}},
		{message("a", "Pulling fs layer", 0, 0), docker.Progress{Known: 1, More: true}},
		{message("b", "Already exists", 0, 0), docker.Progress{Known: 2, Ready: 1, More: true}},
		{message("a", "Downloading", 10, 100), docker.Progress{Done: 10, Total: 100, Known: 2, Ready: 1}},
		{message("a", "Downloading", -5, 100), docker.Progress{Total: 100, Known: 2, Ready: 1}},
		{message("a", "Downloading", 500, 100), docker.Progress{Done: 100, Total: 100, Known: 2, Ready: 1}},
		{message("a", "Downloading", 50, -100), docker.Progress{Done: 50, Total: 100, Known: 2, Ready: 1}},
		{message("a", "Downloading", 50, math.MaxInt64), docker.Progress{Done: 50, Total: 100, Known: 2, Ready: 1}},
		{message("a", "Retrying in 5 seconds", 0, 0), docker.Progress{Total: 100, Known: 2, Ready: 1}},
		{message("c", "Waiting", 0, 0), docker.Progress{Total: 100, Known: 3, Ready: 1, More: true}},
		{message("c", "Verifying Checksum", 0, 0), docker.Progress{Total: 100, Known: 3, Ready: 1}},
		{message("a", "Download complete", 0, 0), docker.Progress{Done: 100, Total: 100, Known: 3, Ready: 1}},
		{message("a", "Extracting", 3, 700), docker.Progress{Done: 100, Total: 100, Known: 3, Ready: 1}},
		{message("c", "Extracting", 3, 7), docker.Progress{Done: 107, Total: 107, Known: 3, Ready: 1}},
		{message("c", "Pull complete", 0, 0), docker.Progress{Done: 107, Total: 107, Known: 3, Ready: 2}},
		{message("a", "Pull complete", 0, 0), docker.Progress{Done: 107, Total: 107, Known: 3, Ready: 3}},
	} {
		if p.see(step.m); p.far() != step.want {
			t.Errorf("step %d: %+v, want %+v", i, p.far(), step.want)
		}
	}
	for i := range int64(maxFollowed) + 10 {
		p.see(message(fmt.Sprint(i), "Downloading", maxLayerSize, maxLayerSize))
	}
	if far := p.far(); len(p.layers) != maxFollowed || far.Done <= 0 || far.Done > far.Total {
		t.Errorf("of %d layers: %+v", len(p.layers), far)
	}
}

func TestHowFarAPullIsIsToldOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []docker.Progress
		w, _ := watch(t.Context(), "x", time.Minute, func(p docker.Progress) { told = append(told, p) })
		defer w.stop()
		w.see(pullMessage{Status: "Pulling from x"})
		for i := range int64(100) { // for ten seconds
			m := pullMessage{ID: "a", Status: "Downloading"}
			m.ProgressDetail.Current, m.ProgressDetail.Total = i+1, 100
			w.see(m)
			time.Sleep(100 * time.Millisecond)
		}
		if len(told) != 10 || told[0].Done != 1 || told[9].Done != 91 {
			t.Errorf("%+v", told)
		}
	})
}

func TestPullIsGivenUpOnlyWithoutProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, ctx := watch(t.Context(), "x", time.Minute, func(docker.Progress) {})
		defer w.stop()
		for i := range int64(10) { // ten minutes, with some progress in each
			time.Sleep(50 * time.Second)
			m := pullMessage{ID: "a", Status: "Downloading"}
			m.ProgressDetail.Current = i
			w.see(m)
			synctest.Wait()
			if ctx.Err() != nil {
				t.Fatalf("given up after %d steps: %v", i, context.Cause(ctx))
			}
		}
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if err := w.cause(nil); status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), "no progress for 1m0s") {
			t.Errorf("cause %v", err)
		}
	})
}

func TestUnpackingMayBeSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, ctx := watch(t.Context(), "x", time.Minute, func(docker.Progress) {})
		defer w.stop()
		w.see(pullMessage{ID: "a", Status: "Extracting"})
		time.Sleep(time.Hour)
		synctest.Wait()
		if ctx.Err() != nil {
			t.Errorf("given up: %v", context.Cause(ctx))
		}
	})
}

func TestUsers(t *testing.T) {
	for in, want := range map[string]string{"": "", "0": "0", "1000:1000": "1000", "nobody": "nobody", "nobody:nogroup": "nobody", "-1": "-1"} {
		uid, name := imageUser(in)
		got := name
		if uid != nil {
			got = fmt.Sprint(uid.Value)
		}
		if got != want {
			t.Errorf("user %q is %q, want %q", in, got, want)
		}
	}
	// Docker looks for such a number in the image's passwd, and may find root.
	for _, in := range []string{"4294967296", "99999999999999999999"} {
		if uid, name := imageUser(in); uid != nil || name != in {
			t.Errorf("user %q is the number %v", in, uid)
		}
	}
}

func TestSharedLayersCountOnce(t *testing.T) {
	base := image.HistoryResponseItem{Created: 1, Size: 100, CreatedBy: "base"}
	a := layersOf([]image.HistoryResponseItem{{Created: 2, Size: 10, CreatedBy: "a"}, base})
	b := layersOf([]image.HistoryResponseItem{{Created: 2, Size: 20, CreatedBy: "b"}, {Created: 1, CreatedBy: "ENV"}, base})
	if len(a) != 2 || len(b) != 2 || a[0] != b[0] || a[1] == b[1] {
		t.Errorf("layers %v and %v", a, b)
	}
}

// TestPullNeedsItsCredentials pulls from a registry that wants a password.
func TestPullNeedsItsCredentials(t *testing.T) {
	docker := testimage.Docker(t)
	inner := containerregistry.New(containerregistry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || user != "me" || password != "hush-hush" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	defer server.Close()
	s, err := New(Config{Docker: docker})
	if err != nil {
		t.Fatal(err)
	}
	ref := strings.TrimPrefix(server.URL, "http://") + "/test/private:1"
	testimage.Load(t, docker, testimage.Busybox(t, ref))
	auth, err := registry.EncodeAuthConfig(registry.AuthConfig{Username: "me", Password: "hush-hush"})
	if err != nil {
		t.Fatal(err)
	}
	pushed, err := docker.ImagePush(t.Context(), ref, image.PushOptions{RegistryAuth: auth})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, pushed); err != nil {
		t.Fatal(err)
	}
	pushed.Close()
	pull := func(password string) error {
		_, err := s.PullImage(t.Context(), &cri.PullImageRequest{Image: &cri.ImageSpec{Image: ref}, Auth: &cri.AuthConfig{Username: "me", Password: password}})
		return err
	}
	err = pull("wrong-guess")
	if c := status.Code(err); c != codes.Unauthenticated && c != codes.PermissionDenied {
		t.Errorf("with a wrong password: %v", err)
	}
	if err != nil && strings.Contains(err.Error(), "wrong-guess") {
		t.Errorf("the password stands in the error: %v", err)
	}
	if err := pull("hush-hush"); err != nil {
		t.Errorf("with the password: %v", err)
	}
}
