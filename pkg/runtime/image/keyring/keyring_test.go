package keyring

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestMatches(t *testing.T) {
	for _, tt := range []struct {
		pattern, repository string
		want                bool
	}{
		{"reg.example", "reg.example/app", true},
		{"reg.example", "reg.example:5000/app", false},
		{"reg.example:5000", "reg.example:5000/app", true},
		{"reg.example:5000", "reg.example:5001/app", false},
		{"reg.example:5000", "reg.example/app", false},
		{"reg.example/team", "reg.example/team/app", true},
		{"reg.example/team", "reg.example/other/app", false},
		{"reg.example/team", "reg.example/teammate/app", true}, // the kubelet's rule
		{"*.example", "reg.example/app", true},
		{"*.example", "a.reg.example/app", false},
		{"*.*.example", "a.reg.example/app", true},
		{"re*.example", "reg.example/app", true},
		{"re*.example", "quay.example/app", false},
		{"reg.*", "reg.example/app", true},
		{"*", "reg.example/app", false},
		{"*", "registry/app", true},
		{"reg.[", "reg.x/app", false},
		{"%zz", "reg.example/app", false},
		{"127.0.0.1:5000", "127.0.0.1:5000/app", true},
		{"127.0.0.*:5000", "127.0.0.1:5000/app", true},
	} {
		if got := Matches(tt.pattern, tt.repository); got != tt.want {
			t.Errorf("Matches(%q, %q) = %v", tt.pattern, tt.repository, got)
		}
	}
}

// objects is an API server's Secrets by namespace/name.
type objects map[string]*v1.Secret

func (o objects) Secret(_ context.Context, namespace, name string) (*v1.Secret, error) {
	if s := o[namespace+"/"+name]; s != nil {
		s.Namespace, s.Name, s.UID = namespace, name, "uid"
		return s, nil
	}
	return nil, errors.New("not found")
}

func configJSON(text string) *v1.Secret {
	return &v1.Secret{Type: v1.SecretTypeDockerConfigJson, Data: map[string][]byte{v1.DockerConfigJsonKey: []byte(text)}}
}

func podWith(secrets ...string) *v1.Pod {
	pod := &v1.Pod{}
	pod.Namespace = "ns"
	for _, s := range secrets {
		pod.Spec.ImagePullSecrets = append(pod.Spec.ImagePullSecrets, v1.LocalObjectReference{Name: s})
	}
	return pod
}

func names(found []Credential) []string {
	var all []string
	for _, c := range found {
		all = append(all, c.Auth.Username+":"+c.Auth.Password+c.Auth.IdentityToken)
	}
	return all
}

func TestImagePullSecrets(t *testing.T) {
	encoded := base64.StdEncoding.EncodeToString([]byte("hub:pass"))
	unpadded := base64.RawStdEncoding.EncodeToString([]byte("raw:pa:ss!"))
	secrets := objects{
		"ns/hub":   configJSON(fmt.Sprintf(`{"auths":{"https://index.docker.io/v1/":{"auth":%q,"email":"x"}}}`, encoded)),
		"ns/io":    configJSON(`{"auths":{"docker.io/library":{"username":"library","password":"p"}}}`),
		"ns/paths": configJSON(`{"auths":{"reg.example":{"username":"all","password":"p"},"reg.example/team":{"username":"team","password":"p"},"http://reg.example:5000/v2/":{"username":"port","password":"p"}}}`),
		"ns/glob":  configJSON(fmt.Sprintf(`{"auths":{"*.glob.example":{"auth":%q}, "bad%%zz":{"auth":%q}}}`, unpadded, encoded)),
		"ns/old":   {Type: v1.SecretTypeDockercfg, Data: map[string][]byte{v1.DockerConfigKey: []byte(`{"reg.example":{"username":"old","password":"p"}}`)}},
		"ns/token": configJSON(`{"auths":{"reg.example":{"identitytoken":"it"}}}`),
		"ns/other": {Type: v1.SecretTypeOpaque, Data: map[string][]byte{v1.DockerConfigJsonKey: []byte("{")}},
		"ns/empty": {Type: v1.SecretTypeDockerConfigJson},
		"ns/store": configJSON(`{"auths":{"reg.example":{}},"credsStore":"desktop"}`),
	}
	for name, tt := range map[string]struct {
		secrets []string
		image   string
		want    []string
		missing []string
	}{
		"Docker Hub by its short name":       {[]string{"hub"}, "busybox:latest", []string{"hub:pass"}, nil},
		"Docker Hub by its long name":        {[]string{"hub"}, "docker.io/me/app:1", []string{"hub:pass"}, nil},
		"Docker Hub by its old name":         {[]string{"hub"}, "index.docker.io/me/app:1", []string{"hub:pass"}, nil},
		"what names the repository is first": {[]string{"hub", "io"}, "busybox", []string{"library:p"}, nil},
		"no other registry":                  {[]string{"hub", "io"}, "quay.io/me/app", nil, nil},
		"the longer path first":              {[]string{"paths"}, "reg.example/team/app:1", []string{"team:p", "all:p"}, nil},
		"another path":                       {[]string{"paths"}, "reg.example/app:1", []string{"all:p"}, nil},
		"another port":                       {[]string{"paths"}, "reg.example:5000/app:1", []string{"port:p"}, nil},
		"a digest":                           {[]string{"paths"}, "reg.example/app@sha256:" + strings.Repeat("a", 64), []string{"all:p"}, nil},
		"in the order of the spec":           {[]string{"old", "paths"}, "reg.example/app", []string{"old:p", "all:p"}, nil},
		"any label":                          {[]string{"glob"}, "a.glob.example/app", []string{"raw:pa:ss!"}, nil},
		"an identity token":                  {[]string{"token"}, "reg.example/app", []string{":it"}, nil},
		"types and entries that hold none":   {[]string{"other", "empty", "", "store"}, "reg.example/app", nil, nil},
		"a missing one is done without":      {[]string{"no", "paths", "nor"}, "reg.example/app", []string{"all:p"}, []string{"no", "nor"}},
		"a pod without any":                  {nil, "reg.example/app", nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			ring := &Secrets{secrets}
			k := Keyring{ring}
			found, err := k.Lookup(t.Context(), podWith(tt.secrets...), tt.image)
			if err != nil {
				t.Fatal(err)
			}
			if got := names(found); !slices.Equal(got, tt.want) {
				t.Errorf("credentials %q, want %q", got, tt.want)
			}
			if missing := ring.Missing(t.Context(), podWith(tt.secrets...)); !slices.Equal(missing, tt.missing) {
				t.Errorf("missing %q, want %q", missing, tt.missing)
			}
			for _, c := range found {
				if c.Secret == nil || c.Secret.Namespace != "ns" || c.Secret.UID != "uid" || !slices.Contains(tt.secrets, c.Secret.Name) || c.ServiceAccount != nil {
					t.Errorf("source %+v, want the Secret", c.Source)
				}
			}
		})
	}
}

func TestAnUnreadableSecretIsNamedButNotShown(t *testing.T) {
	for _, text := range []string{`{"auths": "hidden"}`, `{"auths":{"r":{"auth":"hidden!"}}}`, `{"auths":{"r":{"auth":"aGlkZGVu"}}}`, "hidden"} {
		k := Keyring{&Secrets{Objects: objects{"ns/s": configJSON(text)}}}
		_, err := k.Lookup(t.Context(), podWith("s"), "r/app")
		if err == nil || !strings.Contains(err.Error(), "secret ns/s: not a readable") || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// The figures are those of the kubelet 1.36.
func TestHashIsTheKubelets(t *testing.T) {
	l := Login{Username: "user", Password: "pass", Email: "e@example"}
	// sha256 of {"username":"user","password":"pass","email":"e@example"}
	if got, want := l.hash(), "b942c34e95f8cff741b893e3369cb8186ca565cd89102002d33380dafd70e755"; got != want {
		t.Errorf("hash %s, want %s", got, want)
	}
}

func TestFilesAreLookedForInTheKubeletsOrder(t *testing.T) {
	login := func(user string) string {
		return fmt.Sprintf(`{"reg.example":{"username":%q,"password":"p"}}`, user)
	}
	root, work, home := t.TempDir(), t.TempDir(), t.TempDir()
	f := NewFiles(root, work, home)
	f.files = slices.DeleteFunc(f.files, func(x file) bool { return strings.HasPrefix(x.path, "/.docker") }) // this machine's
	find := func() string {
		found, err := Keyring{f}.Lookup(t.Context(), podWith(), "reg.example/app")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(names(found), " ")
	}
	if got := find(); got != "" {
		t.Errorf("without any file: %q", got)
	}
	// From the last place to the first: each wins over those before it.
	for _, tt := range []struct{ dir, name, user string }{
		{home, ".dockercfg", "home-old"}, {work, ".dockercfg", "work-old"}, {root, ".dockercfg", "root-old"},
		{filepath.Join(home, ".docker"), "config.json", "home"}, {work, "config.json", "work"}, {root, "config.json", "root"},
	} {
		text := login(tt.user)
		if tt.name == "config.json" {
			text = `{"auths":` + text + `}`
		}
		write(t, filepath.Join(tt.dir, tt.name), text)
		if got, want := find(), tt.user+":p"; got != want {
			t.Errorf("%s of %s: %q, want %q", tt.name, tt.user, got, want)
		}
	}
	write(t, filepath.Join(root, "config.json"), `{"auths":`+login("changed")+`}`)
	if got := find(); got != "changed:p" {
		t.Errorf("after a change: %q", got)
	}
	write(t, filepath.Join(root, "config.json"), "{")
	if got := find(); got != "work:p" {
		t.Errorf("an unreadable file: %q, want the next place's", got)
	}
	write(t, filepath.Join(root, "config.json"), "{}")
	if got := find(); got != "" {
		t.Errorf("a file without any: %q, want none, as it is the first that can be read", got)
	}
}

func TestSecretsAreTriedBeforeTheNodesFiles(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "config.json"), `{"auths":{"reg.example/team":{"username":"node","password":"p"}}}`)
	secrets := &Secrets{Objects: objects{"ns/s": configJSON(`{"auths":{"reg.example":{"username":"pod","password":"p"}}}`)}}
	found, err := Keyring{secrets, NewFiles(root, "", "")}.Lookup(t.Context(), podWith("s"), "reg.example/team/app")
	if err != nil || !slices.Equal(names(found), []string{"pod:p", "node:p"}) {
		t.Fatalf("%q, %v", names(found), err)
	}
	if found[0].Secret == nil || found[1].Secret != nil {
		t.Errorf("sources %+v, %+v: want the Secret, then the node", found[0].Source, found[1].Source)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
