package provider

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/image/keyring"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

const apiVersion = "credentialprovider.kubelet.k8s.io/v1"

// answer is a plug-in's, for cat in a here document.
func answer(rest string) string {
	return `{"kind":"CredentialProviderResponse","apiVersion":"` + apiVersion + `",` + rest + `}`
}

// plugins writes plug-ins as shell scripts, and a configuration of them. A script
// counts its calls in $0.calls, and keeps the last request in $0.request.
type plugins struct {
	t   *testing.T
	dir string
}

func newPlugins(t *testing.T, scripts map[string]string) plugins {
	p := plugins{t, t.TempDir()}
	for name, script := range scripts {
		text := "#!/bin/sh\necho >> $0.calls\ncat > $0.request\n" + script + "\n"
		testrun.WriteProgram(t, filepath.Join(p.dir, name), text)
	}
	return p
}

// open makes the providers; each text is one of the configuration's, in YAML.
func (p plugins) open(c Config, providers ...string) (*Providers, error) {
	p.t.Helper()
	text := "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n"
	for _, one := range providers {
		text += "- " + strings.ReplaceAll(one, "\n", "\n  ") + "\n"
	}
	c.ConfigPath, c.BinDir = filepath.Join(p.dir, "config.yaml"), p.dir
	if err := os.WriteFile(c.ConfigPath, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return New(c)
}

func (p plugins) mustOpen(c Config, providers ...string) *Providers {
	p.t.Helper()
	all, err := p.open(c, providers...)
	if err != nil {
		p.t.Fatal(err)
	}
	return all
}

func (p plugins) calls(name string) int {
	data, _ := os.ReadFile(filepath.Join(p.dir, name+".calls"))
	return strings.Count(string(data), "\n")
}

func (p plugins) request(name string) string {
	data, _ := os.ReadFile(filepath.Join(p.dir, name+".request"))
	return string(data)
}

func plain(name, match string) string {
	return fmt.Sprintf("name: %s\napiVersion: %s\nmatchImages: [%s]\ndefaultCacheDuration: 1h", name, apiVersion, match)
}

func find(t *testing.T, p *Providers, pod *v1.Pod, repository string) string {
	t.Helper()
	found, err := p.Find(t.Context(), pod, repository)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, c := range found {
		all = append(all, c.Auth.Username+":"+c.Auth.Password)
	}
	return strings.Join(all, " ")
}

func cat(text string) string { return "cat <<EOF\n" + text + "\nEOF" }

func TestAPlugInIsAskedForWhatItMatches(t *testing.T) {
	p := newPlugins(t, map[string]string{
		"one": cat(answer(`"cacheKeyType":"Image","auth":{"reg.example":{"username":"one","password":"$SECRET-$1"},"reg.example/team/app":{"username":"team","password":"p"},"other.example":{"username":"no","password":"p"}}`)),
		"two": cat(answer(`"cacheKeyType":"Image","auth":{"reg.example":{"username":"two","password":"p"}}`)),
		"not": cat(answer(`"cacheKeyType":"Image","auth":{"reg.example":{"username":"not","password":"p"}}`)),
	})
	all := p.mustOpen(Config{}, plain("one", `"*.example"`)+"\nargs: [arg]\nenv: [{name: SECRET, value: s3}]", plain("two", "reg.example/team"), plain("not", "reg.example:5000"))
	if got, want := find(t, all, &v1.Pod{}, "reg.example/team/app"), "team:p one:s3-arg two:p"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := p.request("one"), `{"kind":"CredentialProviderRequest","apiVersion":"`+apiVersion+`","image":"reg.example/team/app"}`; got != want {
		t.Errorf("request %s, want %s", got, want)
	}
	if p.calls("not") != 0 {
		t.Error("a plug-in was asked for an image that it does not match")
	}
	found, _ := all.Find(t.Context(), &v1.Pod{}, "reg.example/app")
	if len(found) == 0 || found[0].Source != (keyring.Source{}) || found[0].Hash == "" {
		t.Errorf("%+v: want credentials of the node", found)
	}
}

func TestAnswersAreKeptForWhatTheySay(t *testing.T) {
	const a, b, c = "one.example/a", "one.example/b", "two.example/a"
	for name, tt := range map[string]struct {
		answer string
		calls  []int // after each of a, a, b, c; then of a an hour later
	}{
		"an image":      {`"cacheKeyType":"Image"`, []int{1, 1, 2, 3, 4}},
		"a registry":    {`"cacheKeyType":"Registry"`, []int{1, 1, 1, 2, 3}},
		"everything":    {`"cacheKeyType":"Global"`, []int{1, 1, 1, 1, 2}},
		"for longer":    {`"cacheKeyType":"Image","cacheDuration":"2h"`, []int{1, 1, 2, 3, 3}},
		"not at all":    {`"cacheKeyType":"Global","cacheDuration":"0s"`, []int{1, 2, 3, 4, 5}},
		"with no login": {`"cacheKeyType":"Global","auth":{}`, []int{1, 1, 1, 1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlugins(t, map[string]string{"one": cat(answer(tt.answer))})
			clock := clocktesting.NewFakePassiveClock(time.Now())
			all := p.mustOpen(Config{Clock: clock}, plain("one", `"*.example"`))
			var got []int
			for i, repository := range []string{a, a, b, c, a} {
				if i == 4 {
					clock.SetTime(clock.Now().Add(time.Hour))
				}
				find(t, all, &v1.Pod{}, repository)
				got = append(got, p.calls("one"))
			}
			if !slices.Equal(got, tt.calls) {
				t.Errorf("calls %v, want %v", got, tt.calls)
			}
		})
	}
}

func TestEqualQuestionsShareOneCall(t *testing.T) {
	p := newPlugins(t, map[string]string{"one": "while [ ! -e $0.go ]; do sleep 0.01; done\n" + cat(answer(`"cacheKeyType":"Image","cacheDuration":"0s","auth":{"reg.example":{"username":"u","password":"p"}}`))})
	all := p.mustOpen(Config{}, plain("one", "reg.example"))
	// The first caller goes away; the others still get the answer.
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := make(chan error)
	go func() {
		_, err := all.Find(ctx, &v1.Pod{}, "reg.example/app")
		gone <- err
	}()
	for p.calls("one") == 0 {
		time.Sleep(time.Millisecond) // for another process
	}
	why := errors.New("the pod is gone")
	cancel(why)
	if err := <-gone; !errors.Is(err, why) {
		t.Errorf("%v, want %v", err, why)
	}
	var asking sync.WaitGroup
	looked := make(chan struct{}, 100) // in the cache, which is the last thing before asking
	now := func() time.Time { looked <- struct{}{}; return time.Now() }
	for range 5 {
		asking.Go(func() {
			logins, _, err := all.list[0].provide(t.Context(), &v1.Pod{}, "reg.example/app", now)
			if err != nil || logins["reg.example"].Username != "u" {
				t.Errorf("%v, %v", logins, err)
			}
		})
	}
	for range 5 {
		<-looked
	}
	if err := os.WriteFile(filepath.Join(p.dir, "one.go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	asking.Wait()
	// One for all six; a test that is held up between looking and asking may make another.
	if n := p.calls("one"); n > 3 {
		t.Errorf("%d calls, want one for all that ask together", n)
	}
}

func TestAFailingPlugInIsNamedAndDoneWithout(t *testing.T) {
	good := cat(answer(`"cacheKeyType":"Image","auth":{"reg.example":{"username":"good","password":"p"}}`))
	for name, tt := range map[string]struct{ script, want string }{
		"it fails":           {"echo no luck >&2; exit 3", "exit status 3: no luck"},
		"it hangs":           {"sleep 60 & sleep 60", "no answer within 300ms"},
		"no answer":          {"true", "not JSON"},
		"no JSON":            {"echo hidden", "not JSON"},
		"another version":    {cat(strings.Replace(answer(`"cacheKeyType":"Image"`), "/v1", "/v1beta1", 1)), `of "credentialprovider.kubelet.k8s.io/v1beta1", want`},
		"another kind":       {cat(strings.Replace(answer(`"cacheKeyType":"Image"`), "Response", "Request", 1)), `is a "CredentialProviderRequest"`},
		"an unknown field":   {cat(answer(`"cacheKeyType":"Image","hidden":1`)), "unknown fields"},
		"a wrong type":       {cat(answer(`"cacheKeyType":"Image","auth":"hidden"`)), "wrong type"},
		"no cache key type":  {cat(answer(`"auth":{}`)), `cacheKeyType ""`},
		"a wrong cache type": {cat(answer(`"cacheKeyType":"Pod"`)), `cacheKeyType "Pod"`},
		"too much":           {"yes hidden | head -c 20000000; exit 0", "bytes of output"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlugins(t, map[string]string{"bad": tt.script, "good": good})
			all := p.mustOpen(Config{}, plain("bad", "reg.example"), plain("good", "reg.example"))
			bad := all.list[0]
			if tt.want == "no answer within 300ms" {
				bad.plugin.timeout = 300 * time.Millisecond
			}
			_, _, err := bad.provide(t.Context(), &v1.Pod{}, "reg.example/app", time.Now)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "plug-in bad: ") || strings.Contains(err.Error(), "hidden") {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if name == "it hangs" {
				return
			}
			if got := find(t, all, &v1.Pod{}, "reg.example/app"); got != "good:p" {
				t.Errorf("%q, want the other plug-in's", got)
			}
		})
	}
}

// cluster has service accounts by name, and gives out tokens by pod.
type cluster struct {
	accounts map[string]*v1.ServiceAccount
	tokens   int
	err      error
}

func (c *cluster) ServiceAccount(_ context.Context, _, name string) (*v1.ServiceAccount, error) {
	if a := c.accounts[name]; a != nil {
		return a, nil
	}
	return nil, errors.New("no such account")
}

func (c *cluster) Token(_ context.Context, pod *v1.Pod, audience string, _ int64) (string, error) {
	c.tokens++
	return "token-" + pod.Name + "-" + audience, c.err
}

func TestServiceAccountTokens(t *testing.T) {
	account := func(annotations map[string]string) *v1.ServiceAccount {
		a := &v1.ServiceAccount{}
		a.UID, a.Annotations = "uid-x", annotations
		return a
	}
	pod := func(name, account string) *v1.Pod {
		p := &v1.Pod{}
		p.Name, p.Namespace, p.Spec.ServiceAccountName = name, "ns", account
		return p
	}
	const login = `"cacheKeyType":"Global","auth":{"reg.example":{"username":"u","password":"p"}}`
	const echo = `sed 's/.*"serviceAccountToken":"\([^"]*\)".*/` + `{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io\/v1","cacheKeyType":"Global","auth":{"reg.example":{"username":"u","password":"\1"}}}/' $0.request`
	c := &cluster{accounts: map[string]*v1.ServiceAccount{
		"full": account(map[string]string{"role": "puller", "more": "yes", "other": "no"}), "bare": account(nil),
	}}
	p := newPlugins(t, map[string]string{"sa": cat(answer(login)), "optional": cat(answer(login)), "echo": echo, "perpod": echo})
	with := func(name, cache, rest string) *Providers {
		return p.mustOpen(Config{Tokens: c}, plain(name, "reg.example")+"\ntokenAttributes:\n  serviceAccountTokenAudience: aud\n  cacheType: "+cache+"\n  "+rest)
	}
	required := with("sa", "ServiceAccount", "requireServiceAccount: true\n  requiredServiceAccountAnnotationKeys: [role]\n  optionalServiceAccountAnnotationKeys: [more, absent]")

	found, err := required.Find(t.Context(), pod("a", "full"), "reg.example/app")
	if err != nil || len(found) != 1 || found[0].ServiceAccount == nil || *found[0].ServiceAccount != (keyring.Object{UID: "uid-x", Namespace: "ns", Name: "full"}) || found[0].Secret != nil {
		t.Fatalf("%+v, %v: want credentials of the service account", found, err)
	}
	want := `{"kind":"CredentialProviderRequest","apiVersion":"` + apiVersion + `","image":"reg.example/app","serviceAccountToken":"token-a-aud","serviceAccountAnnotations":{"more":"yes","role":"puller"}}`
	if got := p.request("sa"); got != want {
		t.Errorf("request %s\nwant    %s", got, want)
	}
	if got := find(t, required, pod("b", "full"), "reg.example/app"); got != "u:p" || p.calls("sa") != 1 {
		t.Errorf("another pod of the account: %q after %d calls, want the kept answer", got, p.calls("sa"))
	}
	for name, pod := range map[string]*v1.Pod{"lacks the annotation": pod("c", "bare"), "has no account": pod("d", ""), "has an unknown one": pod("e", "absent")} {
		if got := find(t, required, pod, "reg.example/app"); got != "" || p.calls("sa") != 1 {
			t.Errorf("a pod that %s: %q after %d calls", name, got, p.calls("sa"))
		}
	}

	optional := with("optional", "ServiceAccount", "requireServiceAccount: false")
	asked := c.tokens
	if got := find(t, optional, pod("d", ""), "reg.example/app"); got != "u:p" || c.tokens != asked {
		t.Errorf("a pod without account, which is not required: %q", got)
	}
	if _, _, err := with("echo", "ServiceAccount", "requireServiceAccount: true").list[0].provide(t.Context(), pod("a", "full"), "reg.example/app", time.Now); err == nil || !strings.Contains(err.Error(), "gave the service account's token back") {
		t.Errorf("the token as a password: %v", err)
	}
	perPod := with("perpod", "Token", "requireServiceAccount: true")
	for _, name := range []string{"a", "b", "a"} {
		if got := find(t, perPod, pod(name, "full"), "reg.example/app"); got != "u:token-"+name+"-aud" {
			t.Errorf("pod %s: %q", name, got)
		}
	}
	if n := p.calls("perpod"); n != 2 {
		t.Errorf("%d calls, want one a token", n)
	}
	c.err = errors.New("forbidden")
	if _, _, err := required.list[0].provide(t.Context(), pod("z", "full"), "reg.example/new", time.Now); err == nil || !strings.Contains(err.Error(), "plug-in sa: failed to get service account token: forbidden") {
		t.Errorf("%v", err)
	}
	if _, err := p.open(Config{}, plain("sa", "reg.example")+"\ntokenAttributes:\n  serviceAccountTokenAudience: aud\n  cacheType: Token\n  requireServiceAccount: true"); err == nil || !strings.Contains(err.Error(), "plug-in sa: tokenAttributes asks for service-account tokens, which this node has not") {
		t.Errorf("without an API server: %v", err)
	}
}
